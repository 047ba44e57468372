"""One event as it is kept, and the chain of hashes that joins it to all before it.

`hash = blake3(hash before + seq + time + kind + data)`, where `seq` and `time_ns` are 8 bytes each and the length of
`kind` 4 bytes, all big-endian; before the first event stand 32 zero bytes. Whoever notes one hash can later tell
whether any event up to it was changed, dropped, added or moved.
Never: knows what an event means, or where it is stored.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from blake3 import blake3
from msgspec import Struct

from mycelium.base.errors import Refused
from mycelium.base.limits import EVENT_BYTES_MAX, EVENT_KIND_LENGTH_MAX

TIME_NS_MAX = 2**63 - 1
_HEAD = struct.Struct(">QqI")


class Entry(Struct, frozen=True):
    seq: int
    time_ns: int
    kind: str
    data: bytes
    hash: bytes


class Mark(Struct, frozen=True):
    """A place in the log: after event `seq`, whose hash is `hash`."""

    seq: int
    time_ns: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.seq} {self.time_ns} {self.hash.hex()}"


START = Mark(0, 0, bytes(32))


def parse_mark(text: str) -> Mark:
    seq, time_ns, digest = text.split(" ")
    return Mark(int(seq), int(time_ns), bytes.fromhex(digest))


class Torn(Refused):
    """The chain breaks at event `seq`: it or one before it is not as it was written."""

    def __init__(self, seq: int, why: str) -> None:
        super().__init__(
            f"event {seq} of the log {why}",
            hint="`myc audit verify` checks the whole log; restore it from a backup, nothing was changed here",
        )
        self.seq = seq
        self.why = why


def entry_hash(before: bytes, seq: int, time_ns: int, kind: str, data: bytes) -> bytes:
    name = kind.encode()
    return blake3(b"".join((before, _HEAD.pack(seq, time_ns, len(name)), name, data))).digest()


def chain(after: Mark, time_ns: int, events: Sequence[tuple[str, bytes]]) -> list[Entry]:
    """The entries that `events` become when they are appended after a mark.

    Errors: Refused for an event that no log can keep.
    """
    if not 0 <= time_ns <= TIME_NS_MAX:
        raise Refused(f"time {time_ns} ns is outside 0 to {TIME_NS_MAX}")
    entries: list[Entry] = []
    seq, before = after.seq, after.hash
    for kind, data in events:
        if not (0 < len(kind) <= EVENT_KIND_LENGTH_MAX and kind.isascii() and kind.isprintable()):
            raise Refused(f"event kind {kind[:80]!r} is not 1 to {EVENT_KIND_LENGTH_MAX} printable ASCII characters")
        if len(data) > EVENT_BYTES_MAX:
            raise Refused(f"event {kind} has {len(data)} bytes; the largest may have {EVENT_BYTES_MAX}")
        seq += 1
        before = entry_hash(before, seq, time_ns, kind, data)
        entries.append(Entry(seq, time_ns, kind, data, before))
    return entries


def mark_after(entries: Sequence[Entry], otherwise: Mark) -> Mark:
    if not entries:
        return otherwise
    last = entries[-1]
    return Mark(last.seq, last.time_ns, last.hash)


def follow(entries: Iterable[Entry], after: Mark) -> Iterator[Entry]:
    """The same entries, each checked against the one before it.

    Errors: Torn at the first that does not continue the chain.
    """
    seq, before = after.seq, after.hash
    for entry in entries:
        seq += 1
        if entry.seq != seq:
            raise Torn(seq, "is missing")
        try:
            before = entry_hash(before, seq, entry.time_ns, entry.kind, entry.data)
        except (struct.error, UnicodeError, TypeError, AttributeError):
            raise Torn(seq, "is not as it was written") from None
        if entry.hash != before:
            raise Torn(seq, "is not as it was written")
        yield entry
