"""What the end of a bounded run means to its caller."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mycelium.agent.boxed import Bounds, _result
from mycelium.base.errors import Denied, Exhausted, Problem, Refused, Unavailable
from mycelium.client.program import Listener
from mycelium.jobs.program import RESULT_FILE
from mycelium.polymer.container import values
from mycelium.programs.report import FAILURE, told

BOUNDS = Bounds(1 << 30, 5_000)


@pytest.fixture
def step(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path


def ended(step: Path, listener: Listener | None = None, **status: Any) -> Any:
    """The result of a run that ended like this."""
    (step / "status").write_text(json.dumps({"reason": "exit", "exit_code": 1, "message": "", "hint": ""} | status))
    return _result(step, BOUNDS, listener or Listener("x"), "")


def test_a_good_end_gives_the_result(step: Path) -> None:
    (step / "work" / RESULT_FILE).write_bytes(values.pack([1, "a"]))
    assert ended(step, exit_code=0) == [1, "a"]


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        ({"reason": "time"}, Exhausted, "longer than 5s"),
        ({"reason": "memory", "message": "used 2G of memory"}, Exhausted, "the program used 2G of memory"),
        ({"reason": "no-sandbox", "message": "no bubblewrap", "hint": "--trust"}, Denied, "no sandbox: no bubblewrap"),
        ({"exit_code": 137}, Unavailable, "ended with 137"),
        ({"exit_code": 0}, Unavailable, "left no result"),
    ],
)
def test_a_bad_end_says_why(step: Path, status: dict[str, Any], kind: type[Problem], words: str) -> None:
    with pytest.raises(kind, match=words):
        ended(step, **status)


def test_a_run_without_an_end_could_not_be_started(step: Path) -> None:
    with pytest.raises(Unavailable, match="no such program"):
        _result(step, BOUNDS, Listener("x"), "no such program\n")


def test_the_programs_own_failure_is_raised(step: Path) -> None:
    listener = Listener("x")
    failure = told(ZeroDivisionError("by zero"), "")
    listener.write(FAILURE.encode() + msgspec.json.encode(failure) + b"\n")
    with pytest.raises(ZeroDivisionError, match="by zero"):
        ended(step, listener)


def test_a_result_that_is_a_link_or_no_file_of_values_is_not_read(step: Path) -> None:
    result = step / "work" / RESULT_FILE
    (step / "secret").write_bytes(values.pack("secret"))
    result.symlink_to(step / "secret")
    with pytest.raises(Unavailable, match="no result"):
        ended(step, exit_code=0)
    result.unlink()
    result.write_bytes(b"\x80\x04N.")
    with pytest.raises(Refused, match="not a file of values"):
        ended(step, exit_code=0)


def test_what_a_program_writes_without_an_end_is_passed_on(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    listener = Listener("x")
    for _ in range(40):
        listener.write(b"x" * (1 << 16))
    listener.write(b"the end\n")
    listener.flush()
    assert len(capfdbinary.readouterr().err) > 40 << 16
