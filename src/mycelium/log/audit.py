"""The walk over the hash chain: exported files first, then what is still in the log.

Never: repairs anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mycelium.base.errors import Missing, Refused
from mycelium.log.entry import START, Entry, Mark, Torn, follow
from mycelium.log.seam import Verdict
from mycelium.log.segment import read_segment


def segments_of(paths: Sequence[str], moved: Sequence[Path]) -> dict[str, Path]:
    """Where each exported file is looked for: under its name among those that moved, else where it was written."""
    now = {path.name: path for path in moved}
    return {path: now.get(Path(path).name, Path(path)) for path in paths}


def verdict_on(segments: Mapping[str, Path], pruned: Mark, tail: Mark, entries: Iterable[Entry]) -> Verdict:
    """Walk `segments` (what was pruned, oldest first) up to `pruned`, then `entries` up to `tail`."""
    count, first = 0, 0
    place, known = START, True
    unseen: list[str] = []
    try:
        for name, path in segments.items():
            try:
                after, last, kept = read_segment(path)
            except Missing:
                unseen.append(name)
                known = False  # the next part is taken at its word for where it begins
                continue
            if known and (after.seq, after.hash) != (place.seq, place.hash):
                raise Torn(min(after.seq, place.seq) + 1, f"is not continued by {path}")
            for entry in kept:
                count, first = count + 1, first or entry.seq
            place, known = last, True
        if known and (place.seq, place.hash) != (pruned.seq, pruned.hash):
            raise Torn(min(place.seq, pruned.seq) + 1, "does not continue the exported events")
        place = pruned
        for entry in follow(entries, pruned):
            count, first = count + 1, first or entry.seq
            place = Mark(entry.seq, entry.time_ns, entry.hash)
            if entry.seq == tail.seq:
                break
        if (place.seq, place.hash) != (tail.seq, tail.hash):
            raise Torn(min(place.seq, tail.seq) + 1, f"is missing: the log should end with event {tail.seq}")
    except Refused as wrong:
        bad = wrong.seq if isinstance(wrong, Torn) else place.seq + 1
        return Verdict(count, first, bad - 1, "", bad_seq=bad, why=wrong.message, unseen=tuple(unseen))
    return Verdict(count, first, place.seq, place.hash.hex(), unseen=tuple(unseen))
