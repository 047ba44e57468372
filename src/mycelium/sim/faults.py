"""What goes wrong, when, and for how long."""

from __future__ import annotations

from collections.abc import Callable

from mycelium.sim.head import SimHead
from mycelium.sim.machine import Machine
from mycelium.sim.timeline import MS_NS, S_NS, Timeline
from mycelium.sim.trace import Say
from mycelium.sim.world import SimWorld


class Faults:
    """Breaks things until it is told to stop; then mends everything."""

    def __init__(
        self, world: SimWorld, timeline: Timeline, head: SimHead, machines: list[Machine], say: Say, scale: float
    ) -> None:
        self.faults = world.faults
        self.timeline = timeline
        self.head = head
        self.machines = machines
        self.say = say
        self.scale = scale
        self.working = True

    def begin(self) -> None:
        faults, once = self.faults, 1.0  # the head is one, however many nodes there are
        self._now_and_then(faults.machine_s, self.scale, self._machine_dies)
        self._now_and_then(faults.silence_s, once, self._silence)
        self._now_and_then(faults.agent_s, self.scale, self._agent_dies)
        self._now_and_then(faults.step_s, self.scale, lambda: self._any().kill_step())
        self._now_and_then(faults.head_s, once, lambda: self.head.die("killed"))
        self._now_and_then(faults.slow_s, once, self._slow)
        self._now_and_then(faults.clock_s, once, self._clock_jumps)

    def _now_and_then(self, mean_s: int, scale: float, do: Callable[[], None]) -> None:
        if not mean_s:
            return
        mean_ns = mean_s * S_NS / scale

        def again() -> None:
            if self.working:
                do()
                self.timeline.after(self.timeline.drawn_ns(mean_ns), again)

        self.timeline.after(self.timeline.drawn_ns(mean_ns), again)

    def _any(self) -> Machine:
        return self.timeline.random.choice(self.machines)

    def _seen(self) -> bool:
        return self.timeline.happens(500)

    def _machine_dies(self) -> None:
        machine = self._any()
        machine.power_off(self.timeline.happens(self.faults.disk_lost_permille), self._seen())
        self.timeline.after(self.timeline.drawn_ns(self.faults.machine_down_ms * MS_NS), machine.power_on)

    def unplug(self, machine: Machine) -> None:
        """Somebody took the node out of the site; after a while it is put back."""
        machine.power_off(lose_disk=False, seen=True)
        self.timeline.after(self.timeline.drawn_ns(20 * S_NS), machine.power_on)

    def _agent_dies(self) -> None:
        machine = self._any()
        machine.agent_dies(self._seen())
        self.timeline.after(self.timeline.drawn_ns(self.faults.agent_down_ms * MS_NS), machine.agent_begins)

    def _silence(self) -> None:
        random, timeline = self.timeline.random, self.timeline
        count = max(1, len(self.machines) * self.faults.silence_nodes_permille // 1000)
        chosen = random.sample(self.machines, random.randint(1, count))
        cut = timeline.happens(self.faults.cut_permille)
        self.say("network", f"{'cuts off' if cut else 'swallows'} {', '.join(one.node for one in chosen)}")
        for machine in chosen:
            machine.wire.silent = True
            if cut:
                machine.part(self._seen(), "the connection was reset")
        timeline.after(timeline.drawn_ns(self.faults.silence_ms * MS_NS), lambda: self._heal(chosen))

    def _heal(self, machines: list[Machine]) -> None:
        self.say("network", f"is whole for {', '.join(machine.node for machine in machines)}")
        for machine in machines:
            machine.wire.silent = False

    def _slow(self) -> None:
        self.say("disk", "is slow")
        self.head.slow_until_ns = self.timeline.now_ns + self.timeline.drawn_ns(self.faults.slow_ms * MS_NS)

    def _clock_jumps(self) -> None:
        jump_s = self.timeline.random.randint(-self.faults.clock_jump_s, self.faults.clock_jump_s)
        self.head.wall_off_ns += jump_s * S_NS
        self.say("clock", f"jumps by {jump_s} s")

    def stop(self) -> None:
        self.working = False
        self.head.perfect = True
        for machine in self.machines:
            machine.wire.silent = False
            machine.wire.perfect = True
            machine.power_on()
            machine.agent_begins()
