"""Pretend people: they submit, cancel, drain nodes and take them back, and ask again when nobody answers.

A submit keeps its idempotency key until it is answered; what was answered is remembered, and later held against the
log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mycelium.accounts.model import ROLES, Role
from mycelium.accounts.rules import AddAccount
from mycelium.base.errors import Exhausted, Problem, Unavailable
from mycelium.base.ids import AccountId, JobId, NodeId, account_id, number_of
from mycelium.base.subject import SITE, Subject
from mycelium.base.units import GIB, MIB
from mycelium.head.core import Answer
from mycelium.jobs.commands import Cancel, Submit
from mycelium.jobs.model import Array, Priority, Request, Sandbox
from mycelium.nodes.model import Devices
from mycelium.nodes.rules import Drain, Remove, Return
from mycelium.sim.head import SimHead
from mycelium.sim.promises import LOST, TWICE, Promises
from mycelium.sim.timeline import MS_NS, S_NS, Timeline
from mycelium.sim.trace import Violation
from mycelium.sim.world import SimWorld

ACCOUNTS = ("admin", "ada", "ben", "cho")


def person(account: AccountId) -> Subject:
    """Who asks for an account. The first is the admin."""
    number = number_of(account)
    return Subject(ACCOUNTS[number - 1], ROLES[Role.ADMIN if number == 1 else Role.USER], account, door="sim")


ADMIN = person(account_id(1))
PATIENCE_NS = 5 * S_NS  # without an answer for so long, one asks again


class People:
    def __init__(
        self, world: SimWorld, timeline: Timeline, head: SimHead, promises: Promises, nodes: list[NodeId], scale: float
    ) -> None:
        self.world = world
        self.timeline = timeline
        self.head = head
        self.promises = promises
        self.nodes = nodes
        self.scale = scale
        self.working = True
        self.waiting = 0  # submits without an answer
        self.answered: dict[str, tuple[JobId, ...]] = {}
        self.refused: dict[str, str] = {}
        self.jobs: list[JobId] = []
        self.cancelled: set[JobId] = set()
        self.drained: set[NodeId] = set()
        self.unplug: Callable[[NodeId], None] = lambda node: None
        self._keys = 0

    def begin(self) -> None:
        for number, name in enumerate(ACCOUNTS, start=1):
            role = Role.ADMIN if name == "admin" else Role.USER
            self.insist(AddAccount(name, role, f"{number:064x}", "site", number), lambda answer: None, SITE)
        work = self.world.work
        self._now_and_then(work.submit_ms * MS_NS, self._submit)
        self._now_and_then(work.cancel_s * S_NS, self._cancel)
        self._now_and_then(work.drain_s * S_NS, self._drain)

    def _now_and_then(self, mean_ns: int, do: Callable[[], None]) -> None:
        if not mean_ns:
            return

        def again() -> None:
            if self.working:
                do()
                self.timeline.after(self.timeline.drawn_ns(mean_ns / self.scale), again)

        self.timeline.after(self.timeline.drawn_ns(mean_ns / self.scale), again)

    def insist(self, command: Any, told: Callable[[Answer], None], subject: Subject) -> None:
        """Ask until there is an answer: after a broken connection, and after having waited for long."""
        done = False

        def reply(answer: Answer | None) -> None:
            nonlocal done
            if done:
                if answer is not None and isinstance(command, Submit):
                    told(answer)  # a late answer to a question that was asked again: it must say the same
                return
            if answer is None or isinstance(answer.problem, Unavailable | Exhausted):
                self.timeline.after(self.timeline.drawn_ns(300 * MS_NS), ask)
                return
            done = True
            told(answer)

        def ask() -> None:
            if done:
                return
            if not self.head.ask(command, reply, subject):
                self.timeline.after(self.timeline.drawn_ns(300 * MS_NS), ask)
            else:
                self.timeline.after(PATIENCE_NS, ask_again)

        def ask_again() -> None:
            if not done:
                ask()

        ask()

    # Submitting.

    def _submit(self) -> None:
        self._keys += 1
        key = f"key-{self._keys}"
        random = self.timeline.random
        count = random.randint(1, self.world.work.jobs_max)
        account = account_id(random.randint(1, len(ACCOUNTS)))
        requests = tuple(self._request(account) for _ in range(count))
        self.waiting += 1
        self.insist(Submit(account, requests, key), lambda answer: self._accepted(key, answer), person(account))

    def _accepted(self, key: str, answer: Answer) -> None:
        if key in self.answered or key in self.refused:
            known = self.answered.get(key)
            if answer.problem is None and answer.value != known:
                raise Violation(TWICE, f"{key} was answered {known}, then {answer.value}")
            return
        self.waiting -= 1
        if isinstance(answer.problem, Problem):
            self.refused[key] = answer.problem.message
            return
        self.answered[key] = answer.value
        self.jobs += answer.value
        written = self.promises.by_key.get(key, [])
        if written != list(answer.value):
            raise Violation(LOST, f"{key} was answered {answer.value}; the log has {written}", tuple(answer.value))

    def _request(self, account: AccountId) -> Request:
        work, timeline = self.world.work, self.timeline
        random, happens = timeline.random, timeline.happens
        stubborn = 1000 if happens(work.stubborn_permille) else 0
        run_ms = max(50, min(int(timeline.drawn_ns(work.run_ms)), work.run_ms * 3))
        limit_ms = run_ms // 3 if happens(work.short_limit_permille) else run_ms * random.randint(4, 12)
        gang = happens(work.gang_permille)
        return Request(
            command=("work", str(run_ms), str(work.fails_permille), str(stubborn)),
            name="work",
            needs=self._needs(),
            time_ms=limit_ms,
            nodes=random.randint(2, work.gang_nodes_max) if gang else 1,
            array=self._array() if not gang and happens(work.array_permille) else None,
            after=self._after() if happens(work.after_permille) else (),
            priority=random.choice((Priority.LOW, Priority.NORMAL, Priority.NORMAL, Priority.HIGH)),
            on=(f"zone={random.choice('ab')}",) if not gang and happens(work.select_permille) else (),
            retries=random.randint(0, work.retries_max),
            sandbox=Sandbox.PROCESS,
            elastic=gang and happens(work.elastic_permille),
        )

    def _needs(self) -> Devices:
        random, work = self.timeline.random, self.world.work
        if self.timeline.happens(work.impossible_permille):
            return Devices(1_000_000, GIB, 0)
        cpu_m = random.choice((500, 1000, 1000, 1000, 2000, 3000))
        gpus = 1 if self.timeline.happens(work.gpu_permille) else 0
        return Devices(cpu_m, random.choice((256, 512, 1024)) * MIB, gpus)

    def _array(self) -> Array:
        random, work = self.timeline.random, self.world.work
        throttle = random.randint(1, 4) if self.timeline.happens(work.throttle_permille) else 0
        start, step = random.randint(0, 3), random.randint(1, 3)
        return Array(start, start + step * random.randint(1, work.array_tasks_max - 1), step, throttle)

    def _after(self) -> tuple[JobId, ...]:
        recent = self.jobs[-6:]
        return tuple(sorted(self.timeline.random.sample(recent, min(len(recent), 2))))

    # Cancelling, draining.

    def _cancel(self) -> None:
        recent = self.jobs[-12:]
        if not recent:
            return
        job = self.timeline.random.choice(recent)
        array = self.promises.jobs[job].request.array
        one = array is not None and self.timeline.happens(600)
        index = self.timeline.random.choice(array.indices) if array is not None and one else None
        self.insist(Cancel(account_id(1), job, index), lambda answer: self._is_cancelled(job, index, answer), ADMIN)

    def _is_cancelled(self, job: JobId, index: int | None, answer: Answer) -> None:
        if answer.problem is None:
            self.promises.told_cancelled(job, index)

    def _drain(self) -> None:
        node = self.timeline.random.choice(self.nodes)
        if node in self.drained:
            return
        self.drained.add(node)
        now = self.timeline.happens(self.world.work.drain_now_permille)
        self.insist(Drain(node, now=now), lambda answer: self._drain_told(node, answer), ADMIN)

    def _drain_told(self, node: NodeId, answer: Answer) -> None:
        if answer.problem is not None:
            self.drained.discard(node)
        else:
            self.timeline.after(self.timeline.drawn_ns(12 * S_NS), lambda: self._end_drain(node))

    def _end_drain(self, node: NodeId) -> None:
        if node not in self.drained:
            return
        if self.working and self.timeline.happens(self.world.work.remove_permille):
            self.insist(Remove(node), lambda answer: self._removed(node, answer), ADMIN)
        else:
            self._take_back(node)

    def _removed(self, node: NodeId, answer: Answer) -> None:
        if answer.problem is None:
            self.drained.discard(node)
            self.unplug(node)
        else:
            self._take_back(node)

    def _take_back(self, node: NodeId) -> None:
        self.drained.discard(node)
        self.insist(Return(node), lambda answer: None, ADMIN)

    def stop(self) -> None:
        """No more of it. What is drained is taken back when its time has come, so that everything can run."""
        self.working = False
