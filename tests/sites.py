"""Sites for tests, in the system's own words: nodes join, accounts submit, plans are committed, tasks end."""

from __future__ import annotations

from typing import Any

from mycelium.accounts.model import Account, Role, Usage
from mycelium.base.ids import AccountId, JobId, account_id, job_id, node_id, number_of
from mycelium.base.units import GIB, MINUTE_S, MS_NS, S_NS
from mycelium.head.domains import mounted
from mycelium.jobs.apply import apply
from mycelium.jobs.events import (
    JobCancelled,
    JobEnded,
    JobSubmitted,
    StepEnded,
    StepStarted,
    TaskEnded,
    TaskPlaced,
    TaskRequeued,
)
from mycelium.jobs.index import Index
from mycelium.jobs.model import (
    Array,
    Cause,
    Ended,
    Job,
    JobState,
    Priority,
    Reason,
    Request,
    Sandbox,
    Task,
    TaskState,
)
from mycelium.jobs.plan import Place, plan
from mycelium.jobs.reserve import leased_tasks
from mycelium.nodes.model import Devices, Node, NodeState

NOW_NS = 1_800_000_000 * S_NS
HOUR_MS = 60 * MINUTE_S * 1000


def devices(cpus: float = 1, gib: float = 1, gpus: int = 0) -> Devices:
    return Devices(round(cpus * 1000), round(gib * GIB), gpus)


def request(
    cpus: float = 1,
    gib: float = 1,
    gpus: int = 0,
    *,
    nodes: int = 1,
    time_ms: int = HOUR_MS,
    array: int = 0,
    throttle: int = 0,
    priority: Priority = Priority.NORMAL,
    on: tuple[str, ...] = (),
    after: tuple[JobId, ...] = (),
    sandbox: Sandbox = Sandbox.PROCESS,
) -> Request:
    """A request; `array` is its number of tasks, 0 for a job that is no array."""
    tasks = Array(0, array - 1, throttle=throttle) if array else None
    return Request(
        ("true",),
        "a-job",
        devices(cpus, gib, gpus),
        time_ms,
        nodes=nodes,
        array=tasks,
        priority=priority,
        on=on,
        after=after,
        sandbox=sandbox,
    )


class Play:
    """A site and what happens to it, through the same `apply` as in the head."""

    def __init__(self) -> None:
        self.site: Any = mounted().state()
        self.index = Index.of(self.site)
        self.now_ns = NOW_NS

    @property
    def queue(self):
        return self.index.queue

    def node(self, cpus: float = 4, gib: float = 16, gpus: int = 0, state=NodeState.UP, **labels: str) -> Node:
        number = len(self.site.nodes.by_id) + 1
        known = {"sandbox": "process", "llama.cpp": "test", **labels}
        node = Node(node_id(number), f"n{number}", devices(cpus, gib, gpus), known, state, NOW_NS, NOW_NS)
        return self.set_node(node)

    def set_node(self, node: Node) -> Node:
        self.site.nodes.by_id[node.id] = node
        self.index.node_changed(node)
        return node

    def account(self, spent: float = 0, weight: int = 1, name: str = "", role: Role = Role.USER) -> AccountId:
        account = account_id(len(self.site.accounts.by_id) + 1)
        usage = Usage(spent, 0, self.now_ns)
        self.site.accounts.by_id[account] = Account(account, name or account, role, account, 0, weight, usage)
        return account

    def submit(self, request: Request, account: AccountId | None = None) -> Job:
        payer: AccountId = account or next(iter(self.site.accounts.by_id), None) or self.account()
        name = job_id(self.site.jobs.next_number)
        waits_for = tuple(job for job in request.after if not self.site.jobs.by_id[job].ended_ns)
        self._apply(JobSubmitted(name, payer, request, waits_for))
        return self.site.jobs.by_id[name]

    def job(self, job: Job | str) -> Job:
        return self.site.jobs.by_id[job.id if isinstance(job, Job) else JobId(job)]

    def plan(self) -> list[Place]:
        return plan(self.site, self.queue, self.now_ns)

    def commit(self, places: list[Place]) -> list[Place]:
        for place in places:
            known = self.site.jobs.by_id[place.job].tasks.get(place.index)
            self._apply(TaskPlaced(place.job, place.index, known.attempt + 1 if known else 1, place.nodes))
        return places

    def step(self) -> list[Place]:
        """Plan and commit."""
        return self.commit(self.plan())

    def start(self, job: Job, index: int = 0) -> None:
        task = self.job(job).tasks[index]
        for rank in range(len(task.nodes)):
            self._apply(StepStarted(job.id, index, task.attempt, rank, self.now_ns))

    def finish(self, job: Job | str, index: int = 0) -> None:
        record = self.job(job)
        task = record.tasks[index]
        for rank in task.live_ranks():
            self._apply(StepEnded(record.id, index, task.attempt, rank, Ended(Reason.EXIT, 0)))
        self._apply(TaskEnded(record.id, index, task.attempt, TaskState.DONE, 0))
        if self.job(job).ended == record.size:
            self._apply(JobEnded(record.id, JobState.DONE, 0))

    def requeue(self, job: Job, index: int = 0) -> None:
        """The attempt is lost, and the task waits again."""
        task = self.job(job).tasks[index]
        for rank in task.live_ranks():
            self._apply(StepEnded(job.id, index, task.attempt, rank, Ended(Reason.LOST, 137)))
        self._apply(TaskRequeued(job.id, index, task.attempt, Cause.STEP_LOST))

    def cancel(self, job: Job) -> None:
        self._apply(JobCancelled(job.id, "somebody"))

    def later(self, ms: int) -> None:
        self.now_ns += ms * MS_NS

    def running(self) -> list[tuple[Job, Task]]:
        """Every task that holds a lease, in the order of their names."""
        jobs = sorted(self.site.jobs.by_id.values(), key=lambda job: number_of(job.id))
        return [(job, task) for job in jobs for task in sorted(leased_tasks(job), key=lambda task: task.index)]

    def _apply(self, event) -> None:
        apply(self.site, self.index, event, self.now_ns)
