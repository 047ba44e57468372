"""The whole log: what was exported and pruned, and what is still in it, read as one chain.

Files are looked for in the site's own folder first, then where they were written.
Never: writes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from mycelium.base.errors import Missing, Refused
from mycelium.log.entry import START, Entry, Mark, Torn
from mycelium.log.seam import Exported, Log, Verdict, nobody_told
from mycelium.log.segment import read_segment, span_of


class WholeLog:
    def __init__(self, log: Log, folder: Path) -> None:
        self.log = log
        self.folder = folder

    def verify(self, told: Callable[[int], None] = nobody_told) -> Verdict:
        return self.log.verify([self.path_of(file) for file in self.log.exports()], told)

    def path_of(self, file: Exported) -> Path:
        here = self.folder / Path(file.path).name
        return here if here.exists() else Path(file.path)

    def mark(self, seq: int) -> Mark:
        """The place after an event, wherever it is kept. Errors: Refused, Missing."""
        if seq >= self.log.pruned.seq:
            return self.log.mark(seq)
        return self._pruned_mark(lambda last: last.seq >= seq, lambda entry: entry.seq <= seq)

    def mark_before(self, time_ns: int) -> Mark:
        """The place before the first event of a moment or later. Errors: Missing without the file that holds it."""
        if time_ns > self.log.pruned.time_ns:
            return self.log.mark(self.log.seq_before(time_ns))
        return self._pruned_mark(lambda last: last.time_ns >= time_ns, lambda entry: entry.time_ns < time_ns)

    def entries(self, after: Mark, last: Mark) -> Iterator[Entry]:
        """The events between two places, each checked against those before it in its file. Errors: Torn, Missing."""
        seq = after.seq
        for file in self.log.exports():
            if seq < file.last_seq and file.first_seq <= last.seq:
                yield from (entry for entry in self._read(file) if seq < entry.seq <= last.seq)
                seq = min(file.last_seq, last.seq)
        if seq < last.seq:
            yield from self.log.read(seq, last.seq - seq)

    def files_between(self, first_ns: int, last_ns: int) -> list[Path]:
        """The files that hold events of this time, oldest first. Those that are not there are passed over."""
        found: list[Path] = []
        for file in reversed(self.log.exports()):
            try:
                after, last = span_of(path := self.path_of(file))
            except (Refused, Missing):
                continue
            if last.time_ns < first_ns:
                break
            if after.time_ns <= last_ns:
                found.append(path)
        return found[::-1]

    def _pruned_mark(self, may_hold: Callable[[Mark], bool], is_before: Callable[[Entry], bool]) -> Mark:
        """The place of the last pruned event that is still before what is sought."""
        place = START
        for file in self.log.exports():
            place, last = self._span(file)
            if may_hold(last):
                for entry in self._read(file):
                    if not is_before(entry):
                        break
                    place = Mark(entry.seq, entry.time_ns, entry.hash)
                return place
            place = last
        return place

    def _span(self, file: Exported) -> tuple[Mark, Mark]:
        try:
            return span_of(self.path_of(file))
        except Missing:
            raise _lacks(file) from None

    def _read(self, file: Exported) -> Iterator[Entry]:
        try:
            after, _, entries = read_segment(self.path_of(file))
        except Missing:
            raise _lacks(file) from None
        if after.seq != file.first_seq - 1:
            raise Torn(file.first_seq, f"is not in {file.path}")
        return entries


def _lacks(file: Exported) -> Missing:
    return Missing(
        f"events {file.first_seq} to {file.last_seq} were exported to {file.path}, which is not there",
        hint="put the file back, or ask for later events",
    )
