"""A file of exported events: JSON, one line each, readable by anybody and verifiable by itself.

The first line says where the segment stands in the log:
`{"segment": 1, "after": {"seq": 0, "time_ns": 0, "hash": "00…"}, "last": {"seq": 500, "time_ns": …, "hash": "9f…"}}`,
every further line is an event: `{"seq", "time_ns", "kind", "hash"}` with its data as `"text"` when it is UTF-8, else as
`"base64"`. The hashes are those of the log (see `entry`), so a segment continues the one before it. A file whose name
ends in `.gz` is compressed, and read with `zcat`.
Never: overwrites a file, or leaves half of one.
"""

from __future__ import annotations

import base64
import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO

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


_UNREADABLE = (OSError, EOFError, zlib.error)  # of a file, and of what it is packed in

_encode = msgspec.json.encode
_head = msgspec.json.Decoder(_Head)
_line = msgspec.json.Decoder(_Line)


def write_segment(path: Path, after: Mark, last: Mark, entries: Iterable[Entry]) -> int:
    """Write the events after one mark up to another; how many there were. A file that holds them already is left alone.

    Errors: Conflict for any other file of that name, Torn when the entries are not those between the marks,
    Unavailable when the disk does not take them; then no file is there.
    """
    if path.exists():
        return _found(path, after, last)
    count = 0
    try:
        with files.whole(path, durable=True, once=True) as file, closing(_packed(file, path)) as packed:
            for line in lines_of(after, last, entries):
                packed.write(line)
                count += 1
    except OSError as error:
        raise Unavailable(
            f"cannot write {path}: {(error.strerror or str(error)).lower()}", hint="make room, or name another place"
        ) from None
    return count - 1


def lines_of(after: Mark, last: Mark, entries: Iterable[Entry]) -> Iterator[bytes]:
    """A segment as its lines. Errors: Torn when the entries are not exactly those between the marks."""
    yield _encode(_Head(FORMAT, _place(after), _place(last))) + b"\n"
    place = after
    for entry in follow(entries, after):
        place = Mark(entry.seq, entry.time_ns, entry.hash)
        yield _encode(_to_line(entry)) + b"\n"
    _check_end(place, last, "what was read")


def read_lines(file: IO[bytes], name: str) -> tuple[Mark, Mark, Iterator[Entry]]:
    """Where a segment begins and ends, and its events, which are checked as they are read.

    Errors: Refused when it is no segment; Torn, while reading, when it is not as written.
    """
    try:
        head = _head.decode(file.readline(4096))
        after, last = _mark(head.after), _mark(head.last)
    except (*_UNREADABLE, msgspec.MsgspecError, ValueError) as error:
        raise Refused(f"{name} is not a file of exported events: {error}") from None
    if head.segment != FORMAT:
        raise Refused(f"{name} has format {head.segment}; this version reads {FORMAT}")
    return after, last, _checked(_entries(file, after, name), after, last, name)


def read_segment(path: Path) -> tuple[Mark, Mark, Iterator[Entry]]:
    """The same of a file. Errors: also Missing without it."""
    after, last = span_of(path)
    return after, last, _of_file(path)


def span_of(path: Path) -> tuple[Mark, Mark]:
    """Where a segment begins and ends, by its own word. Errors: those of `read_segment`."""
    with _open(path) as file:
        after, last, _ = read_lines(file, str(path))
    return after, last


def check_segment(path: Path, after: Mark, last: Mark) -> None:
    """Read a segment whole. Errors: Refused when it is not exactly the events after one mark up to another."""
    begins, ends, entries = read_segment(path)
    for _ in entries:
        pass
    if (begins.hash, ends.hash) != (after.hash, last.hash):
        raise Refused(f"{path} does not hold events {after.seq + 1} to {last.seq} of this log")


def _found(path: Path, after: Mark, last: Mark) -> int:
    """An earlier writing was whole and its end not noted: its file is taken as it is."""
    try:
        check_segment(path, after, last)
    except Refused:
        hint = "name a new file; exported events are never overwritten"
        raise Conflict(f"{path} is already there, and holds something else", hint=hint) from None
    return last.seq - after.seq


def _packed(file: IO[bytes], path: Path) -> IO[bytes]:
    """Without a name and a time inside, so that the same events make the same file."""
    if path.suffix == ".gz":
        return gzip.GzipFile("", "wb", 6, file, 0)  # type: ignore[return-value]  # it is one in all but its type
    return open(os.dup(file.fileno()), "wb")


def _open(path: Path) -> IO[bytes]:
    try:
        return gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")  # type: ignore[return-value]  # as above
    except FileNotFoundError:
        raise Missing(f"no file {path}") from None
    except OSError as error:
        raise Refused(f"{path} is not a file of exported events: {error}") from None


def _of_file(path: Path) -> Iterator[Entry]:
    with _open(path) as file:
        _, _, entries = read_lines(file, str(path))
        yield from entries


def _checked(entries: Iterable[Entry], after: Mark, last: Mark, name: str) -> Iterator[Entry]:
    place = after
    for entry in follow(entries, after):
        place = Mark(entry.seq, entry.time_ns, entry.hash)
        yield entry
    _check_end(place, last, name)


def _check_end(place: Mark, last: Mark, name: str) -> None:
    if (place.seq, place.hash) != (last.seq, last.hash):
        raise Torn(min(place.seq, last.seq) + 1, f"is not in {name}, which should end with event {last.seq}")


def _entries(file: IO[bytes], after: Mark, name: str) -> Iterator[Entry]:
    seq = after.seq
    try:
        while text := file.readline(_LINE_BYTES_MAX):
            seq += 1
            yield _from_line(_line.decode(text))
    except (*_UNREADABLE, msgspec.MsgspecError, ValueError):
        raise Torn(seq, f"cannot be read from {name}") from None


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
