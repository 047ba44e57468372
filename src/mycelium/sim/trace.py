"""What happened lately, kept for the moment when something breaks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import IntEnum, StrEnum
from typing import cast

from msgspec import Struct
from msgspec.structs import fields

from mycelium.sim.timeline import S_NS, START_NS, Timeline

LINES_KEPT = 4000
LINES_SHOWN = 60


class Violation(Exception):
    """A promise of the system was broken."""

    def __init__(self, promise: str, what: str, about: tuple[str, ...] = ()) -> None:
        super().__init__(f"{promise}: {what}")
        self.promise = promise
        self.what = what
        self.about = about  # names that the trace is searched for


class SimTrace:
    """The last lines of what happened; they cost a tuple each and become text only when they are shown."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._lines: deque[tuple[int, str, object]] = deque(maxlen=LINES_KEPT)

    def add(self, who: str, what: object) -> None:
        self._lines.append((self._timeline.now_ns, who, what))

    def shown(self, about: tuple[str, ...] = ()) -> list[str]:
        """The newest lines, and of the older ones those that speak of `about`."""
        names = [name for name in about if name]
        lines = [self._text(line) for line in self._lines]
        older = [line for line in lines[:-LINES_SHOWN] if any(name in line for name in names)]
        return [*older[-LINES_SHOWN:], "…", *lines[-LINES_SHOWN:]]

    @staticmethod
    def _text(line: tuple[int, str, object]) -> str:
        at_ns, who, what = line
        return f"{(at_ns - START_NS) / S_NS:10.4f}  {who:<9} {brief(what)}"


def brief(what: object) -> str:
    """A record without what is at its default, in few letters."""
    if isinstance(what, StrEnum | IntEnum):
        return what.name.lower()
    if isinstance(what, tuple):
        return f"({', '.join(brief(item) for item in cast('tuple[object, ...]', what))})"
    if not isinstance(what, Struct):
        return str(what)
    told = [
        f"{field.name}={brief(value)}"
        for field in fields(what)
        if (value := getattr(what, field.name)) != field.default and field.name not in UNTOLD
    ]
    return f"{type(what).__name__}({', '.join(told)})"


UNTOLD = frozenset({"print", "name", "outputs", "started_ns", "ended_ns", "memory_bytes", "sandbox"})
Say = Callable[[str, object], None]
