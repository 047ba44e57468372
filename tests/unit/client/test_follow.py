from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from mycelium.base.errors import Unavailable
from mycelium.client import follow
from mycelium.client.site import Event


def piece(data: bytes, offset: int = 0, attempt: int = 1, stream: str = "stdout") -> Event:
    encoded = base64.b64encode(data).decode()
    return Event(stream, {"task": "job-1", "attempt": attempt, "rank": 0, "offset": offset, "data": encoded})


def job(**changes: Any) -> dict[str, Any]:
    tasks = {"size": 1, "waiting": 0, "placed": 0, "running": 0, "done": 1, "failed": 0, "cancelled": 0}
    moment = "2026-01-01T00:00:00.000Z"
    plain = {"id": "job-1", "state": "done", "exit_code": 0, "message": "", "counts": tasks, "request": {"array": None}}
    return {**plain, "started": moment, "ended": moment, "reason": None, **changes}


class Site:
    """Plays streams: each is a list of events, and ends or breaks."""

    def __init__(self, *streams: Sequence[Event | Exception]) -> None:
        self._streams = list(streams)

    def stream(self, path: str, **query: Any) -> Iterator[Event]:
        for event in self._streams.pop(0):
            if isinstance(event, Exception):
                raise event
            yield event


def read(monkeypatch: pytest.MonkeyPatch, *streams: Sequence[Event | Exception], **how: Any) -> dict[str, Any]:
    monkeypatch.setattr(follow.time, "sleep", lambda _: None)
    return follow.LogReader(Site(*streams), "job-1", follow=True, **how).to_the_end()  # type: ignore[arg-type]


def test_stdout_and_stderr_are_passed_on_apart(monkeypatch: pytest.MonkeyPatch, capfdbinary: Any):
    read(monkeypatch, [piece(b"out\x00\xff"), piece(b"err", stream="stderr"), Event("end", job())])
    caught = capfdbinary.readouterr()
    assert (caught.out, caught.err) == (b"out\x00\xff", b"err")


def test_nothing_is_shown_twice_or_lost_when_the_connection_breaks(monkeypatch: pytest.MonkeyPatch, capfdbinary: Any):
    first = [piece(b"abc"), Unavailable("gone")]
    second = [piece(b"ab"), piece(b"cde", 2), Event("end", job())]
    read(monkeypatch, first, second)
    assert capfdbinary.readouterr().out == b"abcde"


def test_a_part_of_the_log_that_cannot_be_had_is_told(monkeypatch: pytest.MonkeyPatch, capfdbinary: Any):
    read(monkeypatch, [Event("problem", {"error": {"message": "object is corrupt"}}), Event("end", job())])
    assert b"cannot be shown: object is corrupt" in capfdbinary.readouterr().err


def test_a_new_attempt_is_shown_from_its_beginning(monkeypatch: pytest.MonkeyPatch, capfdbinary: Any):
    read(monkeypatch, [piece(b"one"), piece(b"two", attempt=2), Event("end", job())])
    caught = capfdbinary.readouterr()
    assert caught.out == b"onetwo"
    assert caught.err == b"job-1 was run again: what follows is attempt 2\n"


def test_a_document_on_stdout_has_it_for_itself(monkeypatch: pytest.MonkeyPatch, capfdbinary: Any):
    read(monkeypatch, [piece(b"out"), Event("end", job())], all_to_stderr=True)
    caught = capfdbinary.readouterr()
    assert (caught.out, caught.err) == (b"", b"out")


def test_a_site_that_stays_away_is_given_up_in_the_end(monkeypatch: pytest.MonkeyPatch):
    now = iter(range(0, 10_000, 200))
    monkeypatch.setattr(follow.time, "monotonic", lambda: next(now))
    with pytest.raises(Unavailable, match="gone"):
        read(monkeypatch, *[[Unavailable("gone")] for _ in range(10)])


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"state": "failed", "exit_code": 7}, 7),
        ({"state": "cancelled", "exit_code": 143}, 143),
        ({"state": "failed", "exit_code": 0}, 1),
        ({"state": "failed", "exit_code": None}, 1),
    ],
)
def test_the_exit_code_is_the_jobs_and_0_only_if_all_is_done(changes: dict[str, Any], code: int):
    assert follow.exit_code(job(**changes)) == code


def test_progress_counts_what_has_ended_however_it_ended():
    tasks = {"size": 9, "waiting": 2, "placed": 0, "running": 1, "done": 3, "failed": 2, "cancelled": 1}
    assert follow.counts(job(state="running", counts=tasks)) == (6, "1 running, 2 failed")


def test_a_part_of_the_log_that_is_gone_is_told_with_its_size(monkeypatch: pytest.MonkeyPatch, capfdbinary: Any):
    read(monkeypatch, [piece(b"tail", offset=3 << 20), piece(b"!", (3 << 20) + 4), Event("end", job())])
    caught = capfdbinary.readouterr()
    assert caught.out == b"tail!"
    said = b"myc: 3M of the stdout of job-1 is missing here: the site keeps the newest 64M\n"
    assert caught.err == said


def test_what_a_job_that_ended_well_has_to_say_is_shown(capsys: pytest.CaptureFixture[str]):
    follow._say_end(Site(), job(message="left out of the outputs: abs: is a link"))  # type: ignore[arg-type]
    assert capsys.readouterr().err == "job-1 is done: left out of the outputs: abs: is a link\n"


def test_a_job_whose_directory_is_being_made_says_so_with_its_size():
    placed = job(state="placed", nodes=["node-1"])
    assert follow.waits_for(placed, 20_000) == "is placed: preparing 20,000 files on node-1"
    assert follow.waits_for(placed, 0) == "is placed: preparing what it starts with on node-1"
    assert follow.waits_for(job(state="queued", reason="no room"), 3) == "waits: no room"
    assert follow.waits_for(job(state="running"), 3) == ""
