"""One run of one world from one seed: work and faults up to the horizon, then calm until everything has ended."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from mycelium.base.ids import NodeId, node_id
from mycelium.base.units import GIB
from mycelium.engine.orders import Order, Report
from mycelium.engine.seam import NodeDown, NodeUp
from mycelium.head.core import Answer
from mycelium.log import MemoryLog
from mycelium.nodes.model import Devices
from mycelium.sim import ending
from mycelium.sim.askers import Askers
from mycelium.sim.faults import Faults
from mycelium.sim.head import Disk, SimHead
from mycelium.sim.machine import Machine
from mycelium.sim.people import ADMIN, People
from mycelium.sim.promises import Promises
from mycelium.sim.timeline import S_NS, START_NS, Timeline
from mycelium.sim.trace import SimTrace, Violation
from mycelium.sim.wire import SimWire
from mycelium.sim.world import SimWorld

SETTLE_STEP_NS = 5 * S_NS
REST_NS = 3 * S_NS  # after the last job: so that machines hear that their steps may be forgotten


class SimOutcome(Struct):
    """What happened in a run, and what broke."""

    world: str
    seed: int
    nodes: int
    broken: str = ""  # the promise, or the fault of the program
    what: str = ""
    trace: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    waits_ms: list[int] = field(default_factory=list)  # from submit to the first task that is placed, sorted
    turns: int = 0
    events: int = 0
    head_lives: int = 0
    simulated_s: float = 0.0
    wall_s: float = 0.0
    log_hash: str = ""

    @property
    def ok(self) -> bool:
        return not self.broken

    @property
    def repeat(self) -> str:
        return f"myc sim {self.world} --seed {self.seed} --nodes {self.nodes}"

    def wait_ms(self, percent: int) -> int:
        return self.waits_ms[min(len(self.waits_ms) - 1, len(self.waits_ms) * percent // 100)] if self.waits_ms else 0


class Simulation:
    """A site with everything in it pretended but the core. It runs once; the same world, seed and number of nodes give
    the same log, byte for byte.
    """

    def __init__(self, world: SimWorld, seed: int, nodes: int | None = None) -> None:
        count = nodes or world.nodes
        scale = count / world.nodes
        self.world = world
        self.outcome = SimOutcome(world.name, seed, count)
        self.timeline = Timeline(seed)
        self.trace = SimTrace(self.timeline)
        self.promises = Promises(self.trace.add, world.models.down_s * S_NS)
        self.log = MemoryLog()
        disk = Disk(self.log, self.promises)
        world = replace(world, snapshot_events=int(world.snapshot_events * max(1.0, scale)))
        self.head = SimHead(world, self.timeline, disk, self.trace.add, self._send, self._head_gone)
        self.machines: dict[NodeId, Machine] = {}
        for number in range(1, count + 1):
            self._add_machine(number)
        machines = list(self.machines.values())
        self.faults = Faults(world, self.timeline, self.head, machines, self.trace.add, scale)
        self.people = People(world, self.timeline, self.head, self.promises, list(self.machines), scale)
        self.askers = Askers(
            world,
            self.timeline,
            self.head,
            machines,
            self._ask_as_admin,
            self.trace.add,
        )
        self.people.unplug = lambda node: self.faults.unplug(self.machines[node])

    def _add_machine(self, number: int) -> None:
        """Unlike machines: small and large ones, every third with a gpu, in two zones."""
        node = node_id(number)
        cpu_m, memory_bytes = (2000, 4000, 3000, 8000)[number % 4], (2, 4, 8)[number % 3] * GIB
        devices = Devices(cpu_m, memory_bytes, 1 if number % 3 == 0 else 0)
        labels = {"zone": "ab"[number % 2], "sandbox": "process", "llama.cpp": "sim"}
        wire = SimWire(self.timeline, self.world.net)
        self.machines[node] = Machine(
            node, devices, labels, self.timeline, wire, self.promises, self.trace.add, self._hear
        )

    def _ask_as_admin(self, command: Any, told: Callable[[Answer], None]) -> None:
        self.people.insist(command, told, ADMIN)

    def _hear(self, report: Report | NodeUp | NodeDown) -> bool:
        return self.head.ask(report, None)  # pyright: ignore[reportArgumentType]

    def _send(self, node: NodeId, order: Order) -> None:
        machine = self.machines[node]
        machine.wire.carry("down", lambda: machine.obey(order))

    def _head_gone(self) -> None:
        for machine in self.machines.values():
            machine.wire.cut()
            machine.reconnect()

    def run(self) -> SimOutcome:
        begun = time.perf_counter()
        try:
            self._live()
            ending.check(self)
        except Violation as violation:
            self._broken(violation.promise, violation.what, violation.about)
        except Exception:  # a fault of the program under test, or of this one: it is told like any other
            self._broken("the head does not crash", traceback.format_exc(limit=-8), ())
        self._sum_up(time.perf_counter() - begun)
        return self.outcome

    def _live(self) -> None:
        self.head.begin()
        for machine in self.machines.values():
            machine.agent_begins()
        self.people.begin()
        self.askers.begin()
        self.faults.begin()
        self.timeline.run(START_NS + self.world.horizon_s * S_NS)
        self.trace.add("sim", "faults end")
        self.people.stop()
        self.askers.stop()
        self.faults.stop()
        limit_ns = self.timeline.now_ns + self.world.settle_s * S_NS
        while not self._quiet() and self.timeline.now_ns < limit_ns:
            self.timeline.run(self.timeline.now_ns + SETTLE_STEP_NS)
        self.timeline.run(self.timeline.now_ns + REST_NS)

    def _quiet(self) -> bool:
        if self.people.waiting or self.people.drained or self.head.core is None or not self.askers.over:
            return False
        jobs_over = all(book.ended for book in self.promises.jobs.values())
        return jobs_over and all(machine.agent and not machine.disk for machine in self.machines.values())

    def _broken(self, promise: str, what: str, about: tuple[str, ...]) -> None:
        self.outcome.broken, self.outcome.what = promise, what
        self.outcome.trace = self.trace.shown(about)

    def _sum_up(self, wall_s: float) -> None:
        outcome, books = self.outcome, self.promises.jobs.values()
        outcome.counts = dict(sorted(self.promises.counts.items()))
        for book in books:
            state = str(book.ended.state) if book.ended else "not ended"
            outcome.counts[state] = outcome.counts.get(state, 0) + 1
        outcome.counts["refused"] = len(self.people.refused)
        outcome.counts["submitted"] = len(books)
        if self.world.models.most:
            outcome.counts |= {"answered": self.askers.answered, "asked again": self.askers.again}
            outcome.counts["woken"] = len(self.askers.waits_ms)
        waits = [book.first_placed_ns - book.submitted_ns for book in books if book.first_placed_ns]
        outcome.waits_ms = sorted(wait // 1_000_000 for wait in waits)
        outcome.events = self.log.last_seq
        outcome.turns, outcome.head_lives = self.head.turns, self.head.lives
        outcome.simulated_s = (self.timeline.now_ns - START_NS) / S_NS
        outcome.wall_s = wall_s
        outcome.log_hash = self.log.verify().hash
