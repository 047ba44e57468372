"""The walk over the hash chain: exported files first, then what is still in the log.

Never: repairs anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mycelium.base.errors import Missing, Refused
from mycelium.log.entry import START, Entry, Mark, Torn, follow
from mycelium.log.seam import Verdict, nobody_told
from mycelium.log.segment import read_segment, span_of

TOLD_EVENTS = 10_000  # between two words on how far the walk has come


def segments_of(paths: Sequence[str], moved: Sequence[Path]) -> dict[str, Path]:
    """Where each exported file is looked for: under its name among those that moved, else where it was written."""
    now = {path.name: path for path in moved}
    return {path: now.get(Path(path).name, Path(path)) for path in paths}


def verdict_on(
    segments: Mapping[str, Path],
    pruned: Mark,
    tail: Mark,
    entries: Iterable[Entry],
    told: Callable[[int], None] = nobody_told,
) -> Verdict:
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
            for entry in _telling(kept, told):
                count, first = count + 1, first or entry.seq
            place, known = last, True
        if known and (place.seq, place.hash) != (pruned.seq, pruned.hash):
            raise Torn(min(place.seq, pruned.seq) + 1, "does not continue the exported events")
        place = pruned
        for entry in _telling(follow(entries, pruned), told):
            count, first = count + 1, first or entry.seq
            place = Mark(entry.seq, entry.time_ns, entry.hash)
            if entry.seq == tail.seq:
                break
        if (place.seq, place.hash) != (tail.seq, tail.hash):
            raise Torn(min(place.seq, tail.seq) + 1, f"is missing: the log should end with event {tail.seq}")
    except Refused as wrong:
        bad, why = (
            (wrong.seq, wrong.why)
            if isinstance(wrong, Torn)
            else (place.seq + 1, f"cannot be checked: {wrong.message}")
        )
        return Verdict(count, first, bad - 1, "", bad_seq=bad, why=why, unseen=tuple(unseen))
    return Verdict(count, first, place.seq, place.hash.hex(), unseen=tuple(unseen))


def verdict_on_files(paths: Sequence[Path], told: Callable[[int], None] = nobody_told) -> Verdict:
    """Walk files of exported events by themselves, as one chain. Where it begins is taken at the first one's word.

    Errors: Missing, and Refused for what is no such file.
    """
    files = sorted(((*span_of(path), path) for path in paths), key=lambda file: (file[0].seq, file[1].seq))
    place, count = files[0][0], 0
    first_seq = place.seq + 1
    try:
        for after, _, path in files:
            if after.seq > place.seq:
                raise Torn(place.seq + 1, f"is in none of the files: {path} begins with event {after.seq + 1}")
            if after.seq == place.seq and after.hash != place.hash:
                raise Torn(after.seq + 1, f"in {path} does not continue event {after.seq} of the file before")
            for entry in _telling(read_segment(path)[2], told):
                if entry.seq == place.seq and entry.hash != place.hash:
                    raise Torn(entry.seq, f"in {path} is not as in another file")
                if entry.seq > place.seq:
                    place, count = Mark(entry.seq, entry.time_ns, entry.hash), count + 1
    except Torn as torn:
        return Verdict(count, first_seq, torn.seq - 1, "", bad_seq=torn.seq, why=torn.why)
    return Verdict(count, first_seq, place.seq, place.hash.hex())


def _telling(entries: Iterable[Entry], told: Callable[[int], None]) -> Iterator[Entry]:
    for entry in entries:
        if entry.seq % TOLD_EVENTS == 0:
            told(entry.seq)
        yield entry
