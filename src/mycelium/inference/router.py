"""Which replica a request goes to: the one that would have worked it off first.

A replica's cost is the tokens that it has before it, plus those of the prompt that it has not seen lately. So requests
with a common beginning go where that beginning is in memory, until that replica has more to do than the prefix saves.
Never: chooses one that is not ready, is draining, or has no place free.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from enum import Enum

from mycelium.base.ids import JobId

BLOCK_CHARACTERS = 256
BLOCK_TOKENS = BLOCK_CHARACTERS // 4
PREFIXES_KEPT = 2_048  # blocks that are remembered of one replica
LINES_SHARE = 4  # lines have a quarter of the places of a replica that has people


class Who(Enum):
    """Who asks for a place, as far as it decides which places there are for them."""

    FIRST = "first"  # a key of which nothing is being answered
    MORE = "more"  # a key that has answers under way
    LINE = "line"  # of a batch


def prefixes(text: str) -> tuple[int, ...]:
    """The hashes of the text's beginnings, one more block each. Equal beginnings have equal hashes in one process."""
    found: list[int] = []
    before = 0
    for at in range(0, len(text) - BLOCK_CHARACTERS + 1, BLOCK_CHARACTERS):
        before = hash((before, text[at : at + BLOCK_CHARACTERS]))
        found.append(before)
    return tuple(found)


class RoutedReplica:
    """A replica as the router knows it."""

    def __init__(self, job: JobId, deployment: str, parallel: int) -> None:
        self.job = job
        self.deployment = deployment
        self.parallel = parallel
        self.ready = False
        self.draining = False
        self.active = 0
        self.lines = 0  # of these, the lines of batches
        self.people_elsewhere = 0  # requests of other gateways there, as far as is known
        self.lines_elsewhere = 0
        self.lines_max = parallel
        self.asked_s = 0.0  # when a person last asked here
        self.tokens = 0  # that it still has to work off, as far as can be told
        self.urgent = 0  # people's requests here whose first token has not come
        self._seen: OrderedDict[int, None] = OrderedDict()

    @property
    def people(self) -> int:
        """Requests of people, of all gateways."""
        return self.active - self.lines + self.people_elsewhere

    def free(self, who: Who) -> bool:
        """Whether there is a place for them.

        The last place is for a key that has none: neither a batch nor a flood from one key makes others wait for it.
        A line does not begin while somebody waits for a first token: its prompt would be worked on in between.
        """
        if not self.ready or self.draining:
            return False
        if who is Who.FIRST:
            return self.active <= self.parallel
        if who is Who.MORE:
            return self.active <= self.parallel and self.active - self.lines < self.parallel
        return not self.urgent and self.active < self.parallel and self.lines < self.lines_max

    def matched(self, blocks: Sequence[int]) -> int:
        """How many blocks of this beginning it has seen."""
        count = 0
        for block in blocks:
            if block not in self._seen:
                break
            count += 1
        return count

    def begin(self, blocks: Iterable[int], tokens: int, *, batch: bool = False) -> None:
        self.active += 1
        self.lines += batch
        self.tokens += tokens
        for block in blocks:
            self._seen[block] = None
            self._seen.move_to_end(block)
        while len(self._seen) > PREFIXES_KEPT:
            self._seen.popitem(last=False)

    def end(self, tokens: int, *, batch: bool = False) -> None:
        self.active -= 1
        self.lines -= batch
        self.tokens -= tokens


def make_room(places: Sequence[RoutedReplica], people: bool) -> None:
    """Where lines of batches may run, of the places of one deployment; `people`: whether somebody has asked lately.

    Each line that runs makes every step of its replica longer, and a person's first token later. So one replica of
    several is kept for people. An only one, and those that have people all the same, run few lines beside them.
    """
    ready = [place for place in places if place.ready and not place.draining]
    home = min(ready, key=lambda p: (not p.people, p.lines, -p.asked_s), default=None) if people else None
    for place in places:
        if place is home and len(ready) > 1:
            place.lines_max = 0
        elif place is home or place.people:
            place.lines_max = max(1, place.parallel // LINES_SHARE)
        else:
            place.lines_max = place.parallel


def choose(
    places: Iterable[RoutedReplica],
    deployment: str,
    blocks: Sequence[int],
    who: Who,
    avoid: frozenset[JobId] = frozenset(),
) -> RoutedReplica | None:
    """The best replica of this deployment with a free place; None when there is none."""
    best: RoutedReplica | None = None
    best_cost = (0, 0)
    for place in places:
        if place.deployment != deployment or place.job in avoid or not place.free(who):
            continue
        cost = (
            place.tokens - place.matched(blocks) * BLOCK_TOKENS,
            place.active + place.people_elsewhere + place.lines_elsewhere,
        )
        if best is None or cost < best_cost:
            best, best_cost = place, cost
    return best
