"""A pretended gateway and who asks it: requests come and go with the hour, replicas answer them on pretended machines.

The gateway sees a replica as a real one does: it answers when its weights are loaded and its machine can be reached. A
request whose replica goes away is asked again elsewhere; each is answered once, however long that takes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from mycelium.base.ids import Digest, JobId, account_id, split_step
from mycelium.base.subject import GATE
from mycelium.base.units import MIB
from mycelium.head.core import Answer
from mycelium.inference.commands import AddModel, Deploy, DeploymentQueue, Report, SeenReplica, Undeploy
from mycelium.inference.model import ModelKind, ReplicaState, Serving
from mycelium.nodes.model import Devices
from mycelium.sim.head import SimHead
from mycelium.sim.machine import Machine, SimPhase, SimStep
from mycelium.sim.timeline import MS_NS, S_NS, Timeline
from mycelium.sim.trace import Say, Violation
from mycelium.sim.world import SimWorld

WAKE = "who asks a sleeping model waits for its weights, and no longer"
NAME = "model"
LOOK_NS = S_NS // 5
REPORT_NS = S_NS
Insist = Callable[[Any, Callable[[Answer], None]], None]


class SimRequest:
    """One request. `asleep`: nobody could answer when it came, and nobody was about to."""

    __slots__ = ("asleep", "came_ns", "life")

    def __init__(self, came_ns: int, *, asleep: bool) -> None:
        self.came_ns = came_ns
        self.asleep = asleep
        self.life = 0  # how often a replica began it: what an earlier one still says is void


class Answering:
    """One step that serves, as the gateway sees it."""

    def __init__(self, machine: Machine, held: SimStep, ready_ns: int) -> None:
        self.machine = machine
        self.held = held
        self.job, _, self.attempt, _ = split_step(held.step.id)
        self.ready_ns = ready_ns
        self.heard_ns = machine.timeline.now_ns
        self.busy: list[SimRequest] = []

    def answers(self) -> bool:
        machine = self.machine
        return machine.on and not machine.wire.silent and machine.timeline.now_ns >= self.ready_ns


class Askers:
    def __init__(
        self, world: SimWorld, timeline: Timeline, head: SimHead, machines: Sequence[Machine], insist: Insist, say: Say
    ) -> None:
        self.models = world.models
        self.timeline = timeline
        self.head = head
        self.machines = machines
        self.insist = insist
        self.say = say
        self.working = True
        self.answered = 0
        self.again = 0  # requests whose replica went away
        self.waits_ms: list[int] = []  # until the first token, of those who came when all slept
        self._boot = ""
        self._said: object = None
        self._said_ns = 0
        self._waiting: deque[SimRequest] = deque()
        self._replicas: dict[str, Answering] = {}
        self._gone = False

    @property
    def over(self) -> bool:
        """Whether everybody was answered and nothing is served any more."""
        return not self.models.most or (not self._open and self._gone)

    @property
    def _open(self) -> int:
        return len(self._waiting) + sum(len(replica.busy) for replica in self._replicas.values())

    def begin(self) -> None:
        models = self.models
        if not models.most:
            return
        self._boot = self.timeline.name()[:16]
        account = account_id(1)
        needs = Devices(1000, 256 * MIB, 0)
        digest = Digest(self.timeline.name())
        serving = Serving(
            NAME, replicas_min=models.least, replicas_max=models.most, parallel=models.parallel, needs=needs
        )

        def added(_: Answer) -> None:
            self.insist(Deploy(account, NAME, serving), lambda answer: self._phase(0))

        self.insist(AddModel(account, NAME, digest, 1, ModelKind.CHAT, "sim"), added)
        self._look()

    # Who asks.

    def _phase(self, number: int) -> None:
        """Some, many, some, and nobody; then again."""
        models = self.models
        mean_ms = (models.some_ms, models.many_ms, models.some_ms, 0)[number % 4]
        length_s = models.phase_s if mean_ms else models.nobody_s
        if not self.working:
            return
        self.timeline.after(length_s * S_NS, lambda: self._phase(number + 1))
        if mean_ms:
            self._ask(mean_ms * MS_NS, self.timeline.now_ns + length_s * S_NS)

    def _ask(self, mean_ns: int, until_ns: int) -> None:
        if not self.working or self.timeline.now_ns >= until_ns:
            return
        self._waiting.append(SimRequest(self.timeline.now_ns, asleep=self._asleep()))
        self._give()
        self.timeline.after(self.timeline.drawn_ns(mean_ns), lambda: self._ask(mean_ns, until_ns))

    def _asleep(self) -> bool:
        core = self.head.core
        return core is not None and not core.site.inference.replicas

    def stop(self) -> None:
        """Nobody comes any more; when all are answered, nothing is served any more."""
        self.working = False

    # What the gateway does.

    def _look(self) -> None:
        """See which replicas there are, give them work, and tell the head."""
        now_ns = self.timeline.now_ns
        found: dict[str, tuple[Machine, SimStep]] = {}
        for machine in self.machines:
            for held in machine.disk.values():
                if held.serves and held.phase is SimPhase.RUNNING:
                    found[held.step.id] = (machine, held)
        for step in [step for step in self._replicas if step not in found]:
            self._lose(self._replicas.pop(step))
        for step, (machine, held) in found.items():
            if step not in self._replicas:
                load_ns = self.timeline.random.randrange(self.models.load_ms * MS_NS // 2, self.models.load_ms * MS_NS)
                self._replicas[step] = Answering(machine, held, now_ns + load_ns)
        for replica in self._replicas.values():
            if replica.answers():
                replica.heard_ns = now_ns
            elif replica.busy:
                self._lose(replica)
        self._give()
        self._report()
        if not self.working and not self._open and not self._gone:
            self._gone = True
            self.insist(Undeploy(account_id(1), NAME), lambda answer: None)
        self.timeline.after(LOOK_NS, self._look)

    def _lose(self, replica: Answering) -> None:
        self.again += len(replica.busy)
        self._waiting.extendleft(reversed(replica.busy))
        replica.busy = []

    def _draining(self, job: JobId) -> bool:
        core = self.head.core
        if core is None:
            return False  # nobody said so
        known = core.site.inference.replicas.get(job)
        return known is None or known.state is ReplicaState.DRAINING or core.site.jobs.by_id[job].cancelled

    def _give(self) -> None:
        """Who waits gets a place, on the replica that has least to do."""
        able = [one for one in self._replicas.values() if one.answers() and not self._draining(one.job)]
        while self._waiting:
            free = [one for one in able if len(one.busy) < self.models.parallel]
            if not free:
                return
            self._begin(self._waiting.popleft(), min(free, key=lambda one: len(one.busy)))

    def _begin(self, asked: SimRequest, replica: Answering) -> None:
        wait_ms = (self.timeline.now_ns - asked.came_ns) // MS_NS
        if asked.asleep and not asked.life:
            self.waits_ms.append(wait_ms)
            if 0 < self.models.first_token_ms < wait_ms:
                raise Violation(WAKE, f"a request waited {wait_ms}ms; the bound is {self.models.first_token_ms}ms")
        asked.life += 1
        replica.busy.append(asked)
        life = asked.life
        self.timeline.after(self.timeline.drawn_ns(self.models.run_ms * MS_NS), lambda: self._end(asked, replica, life))

    def _end(self, asked: SimRequest, replica: Answering, life: int) -> None:
        if asked.life != life or asked not in replica.busy:
            return
        replica.busy.remove(asked)
        self.answered += 1
        self._give()

    def _report(self) -> None:
        now_ns = self.timeline.now_ns
        active = sum(len(replica.busy) for replica in self._replicas.values())
        queue = DeploymentQueue(NAME, len(self._waiting), active)
        seen = tuple(
            SeenReplica(one.job, one.attempt, one.answers(), len(one.busy), (now_ns - one.heard_ns) // MS_NS)
            for one in self._replicas.values()
        )
        said = (queue, [(one.job, one.attempt, one.ready, one.active > 0) for one in seen])
        if said != self._said or now_ns - self._said_ns >= REPORT_NS:
            self._said, self._said_ns = said, now_ns
            self.head.ask(Report(self._boot, "", (queue,), seen), None, GATE)
