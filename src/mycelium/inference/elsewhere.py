"""What keys spend at the other gateways of a site, so that a key's limits hold over all of them.

Each gateway says how much every key has spent there in this spell, and charges its own buckets with what the sums of
the others have grown by. A sum that is said twice, or never arrives, changes nothing.
Never: reads a clock, or refuses anybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mycelium.inference.commands import Spent

SPELL_S = 60.0  # after a minute without a request a bucket is full again, and nobody need hear of it
GATEWAYS_REMEMBERED = 64  # lives of gateways, for a head that begins anew and does not know them for a moment


class Spending:
    """What this gateway tells."""

    def __init__(self) -> None:
        self._spent: dict[str, tuple[int, int, float]] = {}  # by key: requests, tokens, and when it last spent

    def add(self, key: str, requests: int, tokens: int, now_s: float) -> None:
        """`tokens` may be less than none: what was taken before an answer was longer than the answer."""
        known = self._spent.get(key, (0, 0, 0.0))
        self._spent[key] = (known[0] + requests, known[1] + tokens, now_s)

    def told(self, now_s: float) -> tuple[Spent, ...]:
        self._spent = {key: known for key, known in self._spent.items() if now_s - known[2] < SPELL_S}
        return tuple(Spent(key, requests, tokens) for key, (requests, tokens, _) in self._spent.items())


class Elsewhere:
    """What this gateway was told by the others."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, Spent]] | None = None  # by the life of a gateway, by key

    def news(self, told: Mapping[str, Sequence[Spent]]) -> list[Spent]:
        """What was spent since it was told last. What there is before anything was told is taken as known."""
        found: list[Spent] = []
        known, first = self._known or {}, self._known is None
        for boot, sums in told.items():
            before = known.pop(boot, {})
            known[boot] = {one.key: one for one in sums}  # a key that is not named has ended its spell
            if not first:
                found += [_grown(before.get(one.key), one) for one in sums if before.get(one.key) != one]
        while len(known) > GATEWAYS_REMEMBERED:
            del known[next(iter(known))]
        self._known = known
        return found


def _grown(before: Spent | None, now: Spent) -> Spent:
    if before is None or now.requests < before.requests:  # requests only grow in a spell
        return now
    return Spent(now.key, now.requests - before.requests, now.tokens - before.tokens)
