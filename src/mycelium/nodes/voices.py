"""What the head remembers of the voices of nodes. It is in no event: a head that begins has heard nobody yet.

Never: reads a clock, or changes a node.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from mycelium.base.ids import NodeId
from mycelium.nodes.plan import Heard, Patience


class Voices:
    """`greeted`: who said hello to this head, and was not taken out since."""

    def __init__(self, nodes: Iterable[NodeId], patience: Patience, now_ns: int) -> None:
        self.patience = patience
        self.heard = {node: Heard(last_ns=now_ns) for node in nodes}
        self.greeted: set[NodeId] = set()
        self.looked_ns = 0
        self._beats: dict[NodeId, tuple[str, int]] = {}

    def hello(self, node: NodeId, boot: str, now_ns: int) -> None:
        self._beats[node] = (boot, 0)
        self.greeted.add(node)
        self.heard[node] = Heard(now_ns, spoke=True)

    def is_news(self, node: NodeId, boot: str, number: int) -> bool:
        """Whether this beat is none that was repeated or overtaken. One who has not greeted is not listened to: he has
        not said hello to this head yet and will, or was taken out."""
        if node not in self.greeted:
            return False
        known, before = self._beats[node]
        if known != boot or number <= before:
            return False
        self._beats[node] = (boot, number)
        return True

    def beat(self, node: NodeId, now_ns: int, *, clean: bool) -> None:
        self.heard[node] = Heard(now_ns, spoke=True, clean=clean)

    def gone(self, node: NodeId, why: str, *, dead: bool) -> None:
        known = self.heard.get(node)
        if known is not None:
            self.heard[node] = replace(known, gone=why or "not reachable", dead=dead)

    def asks(self, node: NodeId, now_ns: int) -> None:
        """It waits to be approved, and asks again and again: when it stops, it is declined."""
        self.heard[node] = Heard(now_ns)

    def forget(self, node: NodeId) -> None:
        self.heard.pop(node, None)
        self._beats.pop(node, None)

    def left(self, node: NodeId) -> None:
        """It is back when it says hello again, not because it still beats."""
        self.greeted.discard(node)

    def forgive(self, stall_ns: int) -> None:
        """The head itself stood still: no node pays for it."""
        for node, heard in self.heard.items():
            self.heard[node] = replace(heard, last_ns=heard.last_ns + stall_ns)
