from __future__ import annotations

import json

import pytest

from mycelium.base.errors import Refused
from mycelium.client import show


def test_columns_are_as_wide_as_they_need_to_be(capsys: pytest.CaptureFixture[str]):
    show.table(("NAME", "N"), [("a", 1), ("longer name", 20)], right=("N",))
    assert capsys.readouterr().out.splitlines() == ["NAME          N", "a             1", "longer name  20"]


def test_other_peoples_text_cannot_steer_the_terminal():
    assert show.clean("a\x1b[31mb\rc\x9bd\u202e") == "a\ufffd[31mb\ufffdc\ufffdd\ufffd"


def test_empty_facts_are_left_out(capsys: pytest.CaptureFixture[str]):
    show.facts([("a", "1"), ("none", None), ("empty", ""), ("zero", 0)])
    assert capsys.readouterr().out.splitlines() == ["a     1", "zero  0"]


def test_an_error_goes_to_stderr_with_its_hint(capsys: pytest.CaptureFixture[str]):
    show.problem(Refused("job asks for 9 cpus", hint="ask for less"))
    caught = capsys.readouterr()
    assert caught.out == ""
    assert caught.err.splitlines() == ["myc: job asks for 9 cpus", "  hint: ask for less"]


def test_a_program_reads_the_error_as_a_document(capsys: pytest.CaptureFixture[str]):
    show.ask_json(True)
    show.problem(Refused("job asks for 9 cpus", hint="ask for less"))
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "refused"


def test_times_are_told_as_lengths():
    assert show.between("2026-01-01T00:00:00.000Z", "2026-01-01T00:01:30.000Z") == "1m30s"
    assert show.between(None, None) == "-"


def test_numbers_agree_with_their_nouns():
    assert [show.counted(n, "task") for n in (1, 2, 1000)] == ["1 task", "2 tasks", "1,000 tasks"]
