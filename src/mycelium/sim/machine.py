"""A pretend machine with its agent: follows the contract of engine/orders.py, and can lose any part of itself.

What lives where, as in the real one: processes belong to the machine and go on without the agent; what is known of a
step is on the disk; the names of steps that must never start again are the agent's memory.
A command here is `work RUN_MS FAILS_PERMILLE STUBBORN_PERMILLE`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from msgspec.structs import replace

from mycelium.base.ids import NodeId, StepId
from mycelium.engine.orders import (
    WIRE_VERSION,
    Beat,
    Ended,
    Exited,
    Forget,
    Gone,
    Hello,
    Order,
    Reason,
    Report,
    Running,
    Start,
    Started,
    Step,
    Stop,
)
from mycelium.engine.seam import NodeDown, NodeUp
from mycelium.nodes.model import Devices
from mycelium.sim.promises import Promises
from mycelium.sim.timeline import MS_NS, S_NS, Timeline
from mycelium.sim.trace import Say
from mycelium.sim.wire import SimWire

BEAT_NS = S_NS
RECONNECT_NS = S_NS // 2
TERM_NS = 300 * MS_NS  # what a well-behaved step needs to end on SIGTERM, at most


class SimPhase(Enum):
    PREPARING = 0  # accepted: its files are on their way
    RUNNING = 1
    GONE = 2


class SimStep:
    """A step on a machine's disk."""

    __slots__ = ("ended", "phase", "started_ns", "step", "stopping")

    def __init__(self, step: Step) -> None:
        self.step = step
        self.phase = SimPhase.PREPARING
        self.started_ns = 0
        self.stopping = False
        self.ended: Ended | None = None

    @property
    def serves(self) -> bool:
        return self.step.service


class Machine:
    def __init__(
        self,
        node: NodeId,
        devices: Devices,
        labels: dict[str, str],
        timeline: Timeline,
        wire: SimWire,
        promises: Promises,
        say: Say,
        hear: Callable[[Report | NodeUp | NodeDown], bool],
    ) -> None:
        self.node = node
        self.devices = devices
        self.labels = labels
        self.timeline = timeline
        self.wire = wire
        self.promises = promises
        self.say = say
        self.hear = hear  # the head's ear; False when nobody is there
        self.on = True
        self.disk: dict[StepId, SimStep] = {}
        self.busy = Devices()  # what really runs
        self.clock_off_ns = timeline.random.randrange(-2 * S_NS, 2 * S_NS)  # machines' clocks differ
        self.agent = 0  # which life of the agent this is; 0: it is dead
        self._lives = 0
        self._boot = ""
        self._beats = 0
        self._never: set[StepId] = set()  # steps that were stopped before they came, or forgotten

    # The agent's life.

    def agent_begins(self) -> None:
        if self.agent or not self.on:
            return
        self._lives += 1
        self.agent = self._lives
        self._boot = self.timeline.name()[:16]
        self._beats = 0
        self._never = set()
        for held in list(self.disk.values()):
            if held.phase is SimPhase.PREPARING:
                del self.disk[held.step.id]  # never begun: the head orders it again
        self.say(self.node, "agent begins")
        self._connect(self.agent)
        self.timeline.after(self.timeline.random.randrange(BEAT_NS), lambda life=self.agent: self._beat_on(life))

    def agent_dies(self, seen: bool) -> None:
        """The agent ends without a word; `seen`: the head notices that the connection is closed."""
        if not self.agent:
            return
        self.say(self.node, "agent dies")
        self.agent = 0
        self.part(seen, "the agent ended")

    def part(self, seen: bool, why: str) -> None:
        if self.wire.open:
            self.wire.cut()
            if seen:
                self.hear(NodeDown(self.node, why))

    def _connect(self, life: int) -> None:
        if self.agent != life or not life or self.wire.open:
            return
        number = self.node.removeprefix("node-")
        name, address = f"m{number}", f"10.0.0.{number}"
        hello = Hello(
            WIRE_VERSION, self.node, name, self._boot, self.devices, self.labels, address, version="sim", python=""
        )
        if not self.wire.silent and self.hear(NodeUp(hello)):
            self.wire.connect()
            self.beat()
        else:
            self.timeline.after(RECONNECT_NS, lambda: self._connect(life))

    def reconnect(self) -> None:
        """The head has gone away: look for it until it is back."""
        wait_ns = self.timeline.random.randrange(RECONNECT_NS)
        self.timeline.after(wait_ns, lambda life=self.agent: self._connect(life))

    def _beat_on(self, life: int) -> None:
        if self.agent != life:
            return
        self.beat()
        if not self.wire.open:
            self._connect(life)
        self.timeline.after(BEAT_NS, lambda: self._beat_on(life))

    def beat(self) -> None:
        self._beats += 1
        running: list[Running] = []
        gone: list[Gone] = []
        for held in self.disk.values():
            if held.ended is None:
                running.append(Running(held.step.id, held.started_ns))
            else:
                gone.append(Gone(held.step.id, held.ended))
        self._report(Beat(self.node, self._boot, self._beats, tuple(running), tuple(gone)))

    def _report(self, report: Report) -> None:
        self.wire.carry("up", lambda: self._heard(report))

    def _heard(self, report: Report) -> None:
        self.hear(report)

    # Orders.

    def obey(self, order: Order) -> None:
        if not self.agent:
            return
        if isinstance(order, Start):
            self._start(order.step)
        elif isinstance(order, Stop):
            self._stop(order.step, order.grace_ms)
        elif isinstance(order, Forget):
            held = self.disk.get(order.step)
            if held is None or held.ended is not None:
                self.disk.pop(order.step, None)
                self._never.add(order.step)

    def _start(self, step: Step) -> None:
        held = self.disk.get(step.id)
        if held is not None:
            self._repeat(held)
            return
        if step.id in self._never:
            self._lost(step.id)
            return
        self.disk[step.id] = held = SimStep(step)
        self.timeline.after(self._some_ns(40), lambda: self._begin(held))

    def _some_ns(self, most_ms: int) -> int:
        return self.timeline.random.randrange(most_ms * MS_NS) + MS_NS

    def _lost(self, step: StepId) -> None:
        self._never.add(step)
        self._report(Exited(self.node, step, Ended(Reason.LOST, 137, "this node does not know the step")))

    def _repeat(self, held: SimStep) -> None:
        if held.ended is not None:
            self._report(Exited(self.node, held.step.id, held.ended))
        elif held.started_ns:
            self._report(Started(self.node, held.step.id, held.started_ns))

    def _stop(self, step: StepId, grace_ms: int) -> None:
        held = self.disk.get(step)
        if held is None:
            self._lost(step)
        elif held.ended is not None:
            self._repeat(held)
        elif held.phase is SimPhase.PREPARING:
            held.stopping = True
        elif held.phase is SimPhase.RUNNING:
            self._signal(held, grace_ms)

    def _signal(self, held: SimStep, grace_ms: int) -> None:
        """SIGTERM, and SIGKILL to what is left after the grace period."""
        if held.stopping:
            return
        held.stopping = True
        stubborn = not held.serves and self.timeline.happens(int(held.step.command[3]))
        wait_ns = grace_ms * MS_NS if stubborn else min(self._some_ns(TERM_NS // MS_NS), max(1, grace_ms * MS_NS))
        ended = Ended(Reason.STOPPED, 137 if stubborn else 143)
        self.timeline.after(wait_ns, lambda: self._process_ends(held, ended))

    # Processes.

    def _begin(self, held: SimStep) -> None:
        if not self.agent or self.disk.get(held.step.id) is not held or held.phase is not SimPhase.PREPARING:
            return  # the agent that prepared it is gone, and the preparations with it
        if held.stopping:
            self._gone(held, Ended(Reason.STOPPED, 127, "stopped before it began"))
            return
        step = held.step
        held.phase = SimPhase.RUNNING
        held.started_ns = self.timeline.now_ns + self.clock_off_ns
        self.busy = self.busy + step.devices
        self.promises.process_began(self.node, self.devices, self.busy, self.running)
        if held.serves:
            self._report(Started(self.node, step.id, held.started_ns))
            return  # until it is stopped
        mean_ns = int(step.command[1]) * MS_NS
        run_ns = min(self.timeline.drawn_ns(mean_ns), 3 * mean_ns)
        code = self.timeline.random.choice((1, 2, 127, 139)) if self.timeline.happens(int(step.command[2])) else 0
        ended = Ended(Reason.EXIT, code)
        if run_ns > step.time_ms * MS_NS:
            run_ns, ended = step.time_ms * MS_NS, Ended(Reason.TIME, 143)
        self.timeline.after(run_ns, lambda: self._process_ends(held, ended))
        self._report(Started(self.node, step.id, held.started_ns))

    def _process_ends(self, held: SimStep, ended: Ended) -> None:
        if held.phase is not SimPhase.RUNNING or self.disk.get(held.step.id) is not held:
            return
        self.busy = self.busy - held.step.devices
        if ended.reason is Reason.EXIT and ended.exit_code == 0:
            ended = replace(ended, outputs=self.timeline.name())
            self.promises.produced(held.step.id, ended.outputs)
        self._gone(held, ended)

    def _gone(self, held: SimStep, ended: Ended) -> None:
        held.phase = SimPhase.GONE
        held.ended = replace(ended, started_ns=held.started_ns, ended_ns=self.timeline.now_ns + self.clock_off_ns)
        if self.agent:
            self._report(Exited(self.node, held.step.id, held.ended))

    # What goes wrong with the machine itself.

    def kill_step(self) -> None:
        """Somebody kills a step and its shim from outside."""
        running = [held for held in self.disk.values() if held.phase is SimPhase.RUNNING]
        if running:
            held = self.timeline.random.choice(running)
            self.say(self.node, f"{held.step.id} is killed from outside")
            self._process_ends(held, Ended(Reason.LOST, 137, "the shim is gone"))

    def power_off(self, lose_disk: bool, seen: bool) -> None:
        if not self.on:
            return
        self.say(self.node, f"machine dies{', and its disk' if lose_disk else ''}")
        self.on = False
        self.agent = 0
        self.part(seen, "the machine is not reachable")
        for held in self.disk.values():
            if held.phase is SimPhase.RUNNING:
                self.busy = self.busy - held.step.devices
                held.phase = SimPhase.GONE
                held.ended = Ended(Reason.LOST, 137, "the machine went down", started_ns=held.started_ns)
        if lose_disk:
            self.disk = {}

    def power_on(self) -> None:
        if not self.on:
            self.say(self.node, "machine is on again")
            self.on = True
            self.agent_begins()

    @property
    def running(self) -> list[StepId]:
        return [held.step.id for held in self.disk.values() if held.phase is SimPhase.RUNNING]
