"""What people see: plain tables, colours where a terminal shows them, one JSON document where a program asked for it.

Results go to stdout, everything else (progress, hints, errors) to stderr. Nothing here needs rich: a listing is one
write, and rich takes longer to import than a listing takes to make.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import IO, Any

from mycelium.base.errors import Problem
from mycelium.base.units import format_size, format_time_ms

COLORS = {
    "up": "32", "done": "32", "running": "36", "queued": "33", "blocked": "33", "placed": "36", "stopping": "33",
    "suspect": "33", "draining": "33", "drained": "2", "failed": "31", "lost": "31", "cancelled": "2", "left": "2",
}  # fmt: skip

_as_json = False
# Names and messages are other people's: no escape codes, nothing that turns the direction of writing.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_CODES = re.compile(r"\x1b\[[0-9;]*m")


def ask_json(on: bool) -> bool:
    """Remember that a program reads stdout. Called by the option `--json`, before anything can go wrong."""
    global _as_json  # noqa: PLW0603 - one command line, one answer
    _as_json = on
    return on


def document(value: Any) -> None:
    """The one document of `--json`."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def colorful(stream: IO[str]) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, color: str, stream: IO[str] | None = None) -> str:
    return f"\x1b[{color}m{text}\x1b[0m" if color and colorful(stream or sys.stdout) else text


def state(word: str) -> str:
    return paint(word, COLORS.get(word, ""))


def clean(text: Any) -> str:
    """Text from elsewhere, safe to print on a terminal."""
    return _UNSAFE.sub("\ufffd", str(text))


def say(text: str = "") -> None:
    """A line of the result."""
    sys.stdout.write(text + "\n")


def line(text: str) -> None:
    """A line beside the result."""
    sys.stdout.flush()
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def note(text: str) -> None:
    """A line beside the result that may be overlooked."""
    line(paint(text, "2", sys.stderr))


def problem(error: Problem) -> None:
    if _as_json:
        document(error.body())
    line(f"{paint('myc:', '31', sys.stderr)} {clean(error.message)}")
    if error.hint:
        line(f"  {paint('hint:', '36', sys.stderr)} {clean(error.hint)}")


def usage(wrong: Any) -> None:
    """A command line that cannot be read. `wrong` is typer's exception; one without words has shown the help itself."""
    message = wrong.format_message().strip()
    context = getattr(wrong, "ctx", None)
    if _as_json or "--json" in sys.argv:
        hint = f"`{context.command_path} --help`" if context else ""
        document({"error": {"kind": "refused", "message": message, "hint": hint}})
    if not message or type(wrong).__name__ == "NoArgsIsHelpError":
        wrong.show()
        return
    line(f"{paint('myc:', '31', sys.stderr)} {message[:1].lower()}{message[1:].rstrip('.')}")
    if context is not None:
        line(f"  {paint('hint:', '36', sys.stderr)} `{context.command_path} --help` shows how it is used")


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], right: Sequence[str] = ()) -> None:
    """Columns as wide as they need to be; on a terminal the last one is cut where the line ends."""
    lines = [[str(cell) for cell in row] for row in rows]
    widths = [max([len(name), *(_width(row[i]) for row in lines)]) for i, name in enumerate(head)]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    say(paint(_row(head, widths, [name in right for name in head], 0), "1"))
    for row in lines:
        say(_row(row, widths, [name in right for name in head], room))


def _width(cell: str) -> int:
    return len(_CODES.sub("", cell))


def _row(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool], room: int) -> str:
    padded: list[str] = []
    for cell, width, to_right in zip(cells, widths, right, strict=True):
        gap = " " * (width - _width(cell))
        padded.append(gap + cell if to_right else cell + gap)
    before = sum(widths[:-1]) + 2 * (len(widths) - 1)
    if room and before + _width(cells[-1]) > room and "\x1b" not in cells[-1]:
        padded[-1] = cells[-1][: max(8, room - before - 1)] + "…"
    return "  ".join(padded).rstrip()


def facts(pairs: Iterable[tuple[str, Any]]) -> None:
    """Names and values below each other; empty values are left out."""
    kept = [(name, str(value)) for name, value in pairs if value not in ("", None, [])]
    width = max((len(name) for name, _ in kept), default=0)
    for name, value in kept:
        say(f"{paint(name.ljust(width), '2')}  {value}")


def counted(number: int, noun: str, plural: str = "") -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


# Times, as the API gives them.


def epoch(moment: str | None) -> float | None:
    """Seconds since 1970 of an ISO 8601 time."""
    return datetime.fromisoformat(moment).timestamp() if moment else None


def ago(moment: str | None) -> str:
    """How long ago that was: `4.2s`."""
    then = epoch(moment)
    return format_time_ms(round(max(0.0, time.time() - then) * 1000)) if then is not None else "-"


def between(first: str | None, last: str | None) -> str:
    """How long it took, or has taken until now."""
    begun = epoch(first)
    if begun is None:
        return "-"
    return format_time_ms(round(max(0.0, (epoch(last) or time.time()) - begun) * 1000))


def local(moment: str | None) -> str:
    """The time of day here, with the date when it is not today."""
    if not moment:
        return "-"
    then = datetime.fromisoformat(moment).astimezone()
    return then.strftime("%H:%M:%S" if then.date() == datetime.now().astimezone().date() else "%Y-%m-%d %H:%M:%S")


def devices(found: dict[str, Any]) -> str:
    cpus = float(found["cpus"])
    said = f"{cpus:g} {'cpu' if cpus == 1 else 'cpus'}, {format_size(found['memory'])}"
    return f"{said}, {counted(found['gpus'], 'gpu')}" if found["gpus"] else said
