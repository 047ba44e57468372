"""Errors of a program travel as text, and are raised as they were."""

from __future__ import annotations

import io

from mycelium.base.errors import Exhausted
from mycelium.polymer.runtime.costs import Cost
from mycelium.programs.report import Failure, cost_lines, heard, raised, say_failure, say_progress


def through(error: BaseException) -> BaseException:
    said = io.StringIO()
    say_failure(error, "n1", said)
    told = heard(said.getvalue().splitlines()[0])
    assert isinstance(told, Failure)
    return raised(told)


def test_an_error_of_python_comes_back_with_its_class_arguments_and_notes() -> None:
    error = KeyError("a", 2)
    error.add_note("kernel f, call 3, input abc, worker 9")
    found = through(error)
    assert type(found) is KeyError and found.args == ("a", 2)
    assert found.__notes__ == ["kernel f, call 3, input abc, worker 9 on n1"]


def test_an_error_of_the_system_still_names_its_file() -> None:
    for error in (FileNotFoundError(2, "No such file or directory", "/data/a"), OSError("odd"), OSError(5, "odd")):
        found = through(error)
        assert type(found) is type(error)
        assert str(found) == str(error)


def test_what_calls_took_is_the_mean_of_all_of_them() -> None:
    cost = Cost()
    cost.measured(1, 10_000_000)
    cost.measured(9, 90_000)
    assert cost_lines({"map f": cost}) == ["map f: 10 calls, 1.01 ms each"]


def test_our_own_errors_come_back_with_their_hint() -> None:
    found = through(Exhausted("no fuel", hint="more"))
    assert isinstance(found, Exhausted) and (found.message, found.hint) == ("no fuel", "more")


def test_a_class_that_is_not_pythons_is_told_as_text() -> None:
    class Strange(Exception):
        pass

    found = through(Strange("so"))
    assert type(found) is RuntimeError and "Strange: so" in str(found)


def test_only_exceptions_are_made_whatever_a_line_says() -> None:
    for name in ("exec", "SystemExit", "print", "KeyboardInterrupt", "no_such"):
        told = Failure("", "builtins", name, '("x")', "m", "", (), "")
        assert type(raised(told)) is RuntimeError


def test_lines_that_are_the_programs_own_are_left_alone() -> None:
    assert heard("hello") is None
    assert heard("polymer: progress x y") is None
    assert heard("polymer: progress \u00b2 \u00b3") is None
    assert heard("polymer: failure {}") is None
    assert heard('polymer: failure {"kind": "\udcff"}') is None
    said = io.StringIO()
    say_progress(3, 7, said)
    assert heard(said.getvalue().strip()) == (3, 7)
