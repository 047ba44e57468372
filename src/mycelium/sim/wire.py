"""Connections between the head and the agents, which lose, repeat and delay what they carry.

A connection is between one life of an agent and one of the head: when either ends, all that was on its way is gone.
"""

from __future__ import annotations

from collections.abc import Callable

from mycelium.sim.timeline import MS_NS, Timeline
from mycelium.sim.world import Net


class SimWire:
    """The way between one machine and the head."""

    def __init__(self, timeline: Timeline, net: Net) -> None:
        self._timeline = timeline
        self._net = net
        self.number = 0  # of the connection; 0: there is none
        self.silent = False  # messages are swallowed, and nobody is told
        self.perfect = False  # faults have ended
        self._made = 0
        self._last_ns = {"up": 0, "down": 0}

    @property
    def open(self) -> bool:
        return self.number > 0

    def connect(self) -> None:
        self._made += 1
        self.number = self._made

    def cut(self) -> None:
        self.number = 0

    def carry(self, way: str, deliver: Callable[[], None]) -> None:
        """Bring a message to the other side, once, twice, late or never. `way` is up (to the head) or down."""
        if not self.open:
            return
        net, timeline = self._net, self._timeline
        if self.perfect:
            self._deliver_in_turn(way, deliver)
            return
        copies = 0 if timeline.happens(net.lost_permille) else 2 if timeline.happens(net.repeated_permille) else 1
        for _ in range(copies):
            if timeline.happens(net.late_permille):
                self._deliver_at(timeline.now_ns + timeline.random.randrange(net.late_ms * MS_NS), deliver)
            else:
                self._deliver_in_turn(way, deliver)

    def _deliver_in_turn(self, way: str, deliver: Callable[[], None]) -> None:
        delay_ns = self._timeline.random.randrange(self._net.delay_us * 1000) + 1000
        at_ns = max(self._timeline.now_ns + delay_ns, self._last_ns[way] + 1)
        self._last_ns[way] = at_ns
        self._deliver_at(at_ns, deliver)

    def _deliver_at(self, at_ns: int, deliver: Callable[[], None]) -> None:
        number = self.number

        def arrive() -> None:
            if self.number == number and not self.silent:
                deliver()

        self._timeline.at(at_ns, arrive)
