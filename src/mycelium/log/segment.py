"""A file of exported events: JSON, one line each, readable by anybody and verifiable by itself.

The first line says where the segment stands in the log:
`{"segment": 1, "after": {"seq": 0, "time_ns": 0, "hash": "00…"}, "last": {"seq": 500, "time_ns": …, "hash": "9f…"}}`,
every further line is an event: `{"seq", "time_ns", "kind", "hash"}` with its data as `"text"` when it is UTF-8, else as
`"base64"`. The hashes are those of the log (see `entry`), so a segment continues the one before it.
Never: overwrites a file, or leaves half of one.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from mycelium.base import files
from mycelium.base.errors import Conflict, Missing, Refused, Unavailable
from mycelium.base.limits import EVENT_BYTES_MAX
from mycelium.log.entry import Entry, Mark, Torn, follow

FORMAT = 1
_LINE_BYTES_MAX = 8 * EVENT_BYTES_MAX  # JSON writes a control character as six


class _Place(Struct, frozen=True):
    seq: int
    time_ns: int
    hash: str


class _Head(Struct, frozen=True):
    segment: int
    after: _Place
    last: _Place


class _Line(Struct, frozen=True, omit_defaults=True):
    seq: int
    time_ns: int
    kind: str
    hash: str
    text: str | None = None
    base64: str | None = None


_encode = msgspec.json.encode
_head = msgspec.json.Decoder(_Head)
_line = msgspec.json.Decoder(_Line)


def write_segment(path: Path, after: Mark, last: Mark, entries: Iterable[Entry]) -> int:
    """Write the events after one mark up to another; how many there were."""
    if path.exists():
        raise Conflict(f"{path} is already there", hint="name a new file; exported events are never overwritten")
    count = 0
    try:
        with files.whole(path, durable=True, once=True) as file:
            file.write(_encode(_Head(FORMAT, _place(after), _place(last))) + b"\n")
            for entry in follow(entries, after):
                file.write(_encode(_to_line(entry)) + b"\n")
                count += 1
    except OSError as error:
        raise Unavailable(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from None
    return count


def read_segment(path: Path) -> tuple[Mark, Mark, Iterator[Entry]]:
    """Where a segment begins and ends, and its events, which are checked as they are read.

    Errors: Missing without the file, Refused when it is no segment; Torn, while reading, when it is not as written.
    """
    try:
        with open(path, "rb") as file:
            head = _head.decode(file.readline(4096))
        after, last = _mark(head.after), _mark(head.last)
    except FileNotFoundError:
        raise Missing(f"no file {path}") from None
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        raise Refused(f"{path} is not a file of exported events: {error}") from None
    if head.segment != FORMAT:
        raise Refused(f"{path} has format {head.segment}; this version reads {FORMAT}")
    return after, last, _checked(path, after, last)


def check_segment(path: Path, after: Mark, last: Mark) -> None:
    """Read a segment whole. Errors: Refused when it is not exactly the events after one mark up to another."""
    begins, ends, entries = read_segment(path)
    for _ in entries:
        pass
    if (begins.hash, ends.hash) != (after.hash, last.hash):
        raise Refused(f"{path} does not hold events {after.seq + 1} to {last.seq} of this log")


def _checked(path: Path, after: Mark, last: Mark) -> Iterator[Entry]:
    seq, digest = after.seq, after.hash
    for entry in follow(_lines(path, after), after):
        seq, digest = entry.seq, entry.hash
        yield entry
    if (seq, digest) != (last.seq, last.hash):
        raise Torn(min(seq, last.seq) + 1, f"is not in {path}, which should end with event {last.seq}")


def _lines(path: Path, after: Mark) -> Iterator[Entry]:
    seq = after.seq
    try:
        with open(path, "rb") as file:
            file.readline(4096)
            while text := file.readline(_LINE_BYTES_MAX):
                seq += 1
                yield _from_line(_line.decode(text))
    except (OSError, msgspec.MsgspecError, ValueError):
        raise Torn(seq, f"cannot be read from {path}") from None


def _place(mark: Mark) -> _Place:
    return _Place(mark.seq, mark.time_ns, mark.hash.hex())


def _mark(place: _Place) -> Mark:
    return Mark(place.seq, place.time_ns, bytes.fromhex(place.hash))


def _to_line(entry: Entry) -> _Line:
    digest = entry.hash.hex()
    try:
        return _Line(entry.seq, entry.time_ns, entry.kind, digest, text=entry.data.decode())
    except UnicodeDecodeError:
        data = base64.b64encode(entry.data).decode()
        return _Line(entry.seq, entry.time_ns, entry.kind, digest, base64=data)


def _from_line(line: _Line) -> Entry:
    data = base64.b64decode(line.base64, validate=True) if line.base64 is not None else (line.text or "").encode()
    return Entry(line.seq, line.time_ns, line.kind, data, bytes.fromhex(line.hash))
