from __future__ import annotations

import pytest

from mycelium.base.errors import Refused
from mycelium.cli.jobs.run import check, read_env


def test_mistakes_are_named_as_the_options_they_were_made_in():
    with pytest.raises(Refused) as caught:
        check({"command": ["x"], "cpus": "many", "array": "9-1", "retries": "-1"})
    said = caught.value.message
    assert said.startswith("3 mistakes:")
    assert all(option in said for option in ("--cpus: ", "--array: ", "--retries: "))


def test_one_mistake_keeps_its_hint_apart():
    with pytest.raises(Refused, match=r"^--memory: 'lots' is not a size$") as caught:
        check({"command": ["x"], "memory": "lots"})
    assert caught.value.hint == "write 512M, 1.5G or a number of bytes"


def test_variables_are_given_or_passed_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MINE", "m=1")
    assert read_env(["A=1", "B=", "MINE", "C=x=y"]) == {"A": "1", "B": "", "MINE": "m=1", "C": "x=y"}


def test_a_variable_that_is_not_set_cannot_be_passed_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(Refused, match="'NOT_SET' is not set here"):
        read_env(["NOT_SET"])
