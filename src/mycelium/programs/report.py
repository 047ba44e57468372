"""What a program job says of itself while it runs and when it fails: lines on its stderr, read by the client.

An error travels as its class's name, its plain arguments and its traceback as text, so that nobody unpickles what came
out of a sandbox.
"""

from __future__ import annotations

import builtins
import traceback
from collections.abc import Mapping
from typing import Any, TextIO

import msgspec
from msgspec import Struct

from mycelium.base.errors import KINDS, Problem, Refused
from mycelium.base.limits import FAILURE_TRACE_BYTES_MAX
from mycelium.polymer.program.words import LineReader, literal
from mycelium.polymer.runtime.costs import Cost
from mycelium.polymer.runtime.failure import RemoteTraceback

PROGRESS = "polymer: progress "
FAILURE = "polymer: failure "
VERBOSE = "POLYMER_VERBOSE"  # in the environment of a driver: 1: say what calls took
_ARGUMENTS_MAX = 4_096  # characters


class Failure(Struct, frozen=True):
    """`kind` names one of Mycelium's own errors; else `module` and `name` are those of the exception's class."""

    kind: str
    module: str
    name: str
    arguments: str  # as a literal; empty when they have no text
    message: str
    hint: str
    notes: tuple[str, ...]
    trace: str


def told(error: BaseException, node: str) -> Failure:
    kind = type(error)
    cause = error.__cause__
    if isinstance(cause, RemoteTraceback):
        trace = cause.text
    else:
        trace = "".join(traceback.format_exception(kind, error, error.__traceback__))
    notes = [str(note) for note in getattr(error, "__notes__", [])]
    notes = [f"{note} on {node}" if node and note.startswith("kernel ") else note for note in notes]
    return Failure(
        error.kind if isinstance(error, Problem) and error.kind in KINDS else "",
        kind.__module__,
        kind.__qualname__,
        _arguments(error),
        str(error)[:_ARGUMENTS_MAX],
        error.hint if isinstance(error, Problem) else "",
        tuple(notes),
        trace[-FAILURE_TRACE_BYTES_MAX:],
    )


def _arguments(error: BaseException) -> str:
    given = error.args
    if isinstance(error, OSError) and isinstance(error.filename, str) and len(given) == 2:
        given = (*given, error.filename)  # `args` leaves out what file it was
    try:
        text = literal(given, {})
    except Refused:
        return ""
    return text if len(text) <= _ARGUMENTS_MAX else ""


def raised(failure: Failure) -> BaseException:
    """The exception to raise for it: of the same class where that is Python's or ours, else a RuntimeError."""
    error = _made(failure)
    for note in failure.notes:
        error.add_note(note)
    error.__cause__ = RemoteTraceback(failure.trace)
    return error


def _made(failure: Failure) -> BaseException:
    if failure.kind in KINDS:
        return KINDS[failure.kind](failure.message, hint=failure.hint)
    kind = getattr(builtins, failure.name, None) if failure.module == "builtins" else None
    if isinstance(kind, type) and issubclass(kind, Exception) and failure.arguments:
        try:
            reader = LineReader(failure.arguments, 1, {})
            return kind(*reader.literal())
        except (Refused, TypeError, ValueError):  # arguments that its class does not take
            pass
    return RuntimeError(f"{failure.name}: {failure.message}" if failure.message else failure.name)


def say_failure(error: BaseException, node: str, to: TextIO) -> None:
    """The line for the client, then the traceback for those who read the log."""
    failure = told(error, node)
    line = FAILURE + msgspec.json.encode(failure).decode()
    to.write("\n".join([line, failure.trace.rstrip(), *failure.notes]) + "\n")
    to.flush()


def say_progress(done: int, total: int, to: TextIO) -> None:
    to.write(f"{PROGRESS}{done} {total}\n")
    to.flush()


def cost_lines(costs: Mapping[str, Cost]) -> list[str]:
    """What calls took, a line for each operation of a kernel, and under it its forms where there was a choice."""
    lines: list[str] = []
    for name, cost in costs.items():
        lines.append(f"{name.strip()}: {cost.calls} calls, {_took(cost.spent_ns / max(cost.calls, 1))} each")
        for (kernel, form, device), (calls, ns) in sorted(cost.chosen.items()):
            lines.append(f"  {kernel} as {form} on {device}: {calls} calls, {_took(ns / calls)} each")
    return lines


def _took(ns: float) -> str:
    return f"{ns / 1e9:.3g} s" if ns >= 1e9 else f"{ns / 1e6:.3g} ms" if ns >= 1e6 else f"{ns / 1e3:.3g} us"


def heard(line: str) -> Failure | tuple[int, int] | None:
    """What a line of stderr says to the client; None: it is the program's own."""
    if line.startswith(FAILURE):
        try:
            return msgspec.json.decode(line[len(FAILURE) :], type=Failure)
        except (msgspec.DecodeError, UnicodeError):
            return None
    words: list[Any] = line[len(PROGRESS) :].split() if line.startswith(PROGRESS) else []
    if len(words) == 2 and all(word.isdecimal() and len(word) < 16 for word in words):
        return int(words[0]), int(words[1])
    return None
