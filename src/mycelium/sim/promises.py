"""What the system promises, watched from outside while it runs.

The book kept here is its own: it is written from the events that became durable, from what the pretend machines really
run and from what callers were told. It shares no code with the rules that it judges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from mycelium.base.ids import JobId, NodeId, StepId, TaskId, step_id, task_id
from mycelium.base.limits import EVICTIONS_PER_MINUTE
from mycelium.inference.events import (
    DeploymentSet,
    ReplicaDraining,
    ReplicaGone,
    ReplicaStarted,
    TargetChanged,
)
from mycelium.jobs.events import (
    JobCancelled,
    JobEnded,
    JobReleased,
    JobSubmitted,
    StepEnded,
    TaskEnded,
    TaskPlaced,
    TaskRequeued,
)
from mycelium.jobs.model import Cause, JobState, Reason, Request, TaskState
from mycelium.nodes.events import (
    NodeBack,
    NodeDraining,
    NodeJoined,
    NodeLeft,
    NodeLost,
    NodeReturned,
    NodeSuspected,
)
from mycelium.nodes.model import Devices
from mycelium.sim.timeline import S_NS
from mycelium.sim.trace import Say, Violation

LOST = "nothing accepted is lost"
TWICE = "nothing is submitted twice"
CAPACITY = "capacity is never exceeded"
COMMIT = "a task is committed once, by its current attempt"
LEASE = "a lease is given only where it may be"
ORDER = "what comes after a job starts after it"
EVICTION = "evictions are rate-limited"
CANCEL = "what is cancelled does not start"
SCALE = "replicas are as many as they may be, and do not flap"
BLAME = "a task fails only by its own doing"
REPLAY = "replay equals live state"


class TaskBook:
    """What the log said of a task."""

    __slots__ = ("attempt", "ends", "failures", "losses", "nodes", "open", "over")

    def __init__(self) -> None:
        self.attempt = 0
        self.nodes: tuple[NodeId, ...] = ()
        self.open = False  # an attempt holds a lease
        self.ends: dict[int, StepEnded] = {}
        self.over: TaskEnded | None = None
        self.losses = 0
        self.failures = 0


class JobBook:
    """What the log said of a job."""

    __slots__ = ("cancelled", "ended", "first_placed_ns", "leased", "request", "submitted_ns", "tasks")

    def __init__(self, request: Request, at_ns: int) -> None:
        self.request = request
        self.submitted_ns = at_ns
        self.first_placed_ns = 0
        self.tasks: dict[int, TaskBook] = {}
        self.leased = 0
        self.cancelled = False
        self.ended: JobEnded | None = None


class DeploymentBook:
    """What the log said of a deployment."""

    __slots__ = ("changed_ns", "least", "most", "target")

    def __init__(self, least: int, most: int, target: int) -> None:
        self.least, self.most, self.target = least, most, target
        self.changed_ns = 0


class Promises:
    def __init__(self, say: Say, down_ns: int = 0) -> None:
        self.say = say
        self._down_ns = down_ns  # replicas become fewer no sooner after any change
        self.jobs: dict[JobId, JobBook] = {}
        self.by_key: dict[str, list[JobId]] = {}
        self.labels: dict[NodeId, dict[str, str]] = {}
        self.counts: dict[str, int] = {}
        self._made_by: dict[str, StepId] = {}  # by digest of the outputs
        self._lost_ns: list[int] = []
        self._cancelled_tasks: set[tuple[JobId, int]] = set()
        self._shut: set[NodeId] = set()  # suspect, lost or taken out
        self._draining: set[NodeId] = set()
        self.served: dict[str, DeploymentBook] = {}
        self._replicas: dict[JobId, str] = {}  # that are neither drained, cancelled nor gone

    # What machines do.

    def process_began(self, node: NodeId, has: Devices, busy: Devices, running: list[StepId]) -> None:
        if not has.covers(busy):
            what = f"{node} has {has} and runs {busy}: {', '.join(running)}"
            raise Violation(CAPACITY, what, (node, *running))
        self.counts["steps"] = self.counts.get("steps", 0) + 1

    def produced(self, step: StepId, outputs: str | None) -> None:
        if outputs:
            self._made_by[outputs] = step

    # What people were told.

    def told_cancelled(self, job: JobId, index: int | None) -> None:
        book = self.jobs[job]
        if index is not None:
            self._cancelled_tasks.add((job, index))
        elif not (book.cancelled or book.ended):
            raise Violation(CANCEL, f"{job} was said to be cancelled, and the log does not know", (job,))

    # What becomes durable.

    def committed(self, events: Sequence[object], at_ns: int) -> None:
        for event in events:
            kind = type(event).__name__
            self.counts[kind] = self.counts.get(kind, 0) + 1
            self.say("log", event)
            watch = self.WATCH.get(type(event))
            if watch is not None:
                watch(self, event, at_ns)

    def _task(self, job: JobId, index: int) -> tuple[JobBook, TaskBook]:
        book = self.jobs[job]
        return book, book.tasks.setdefault(index, TaskBook())

    def _submitted(self, event: JobSubmitted, at_ns: int) -> None:
        if event.job in self.jobs:
            raise Violation(TWICE, f"{event.job} was submitted before", (event.job,))
        self.jobs[event.job] = JobBook(event.request, at_ns)
        self.by_key.setdefault(event.key, []).append(event.job)

    def _cancelled(self, event: JobCancelled, at_ns: int) -> None:
        self.jobs[event.job].cancelled = True
        self._replicas.pop(event.job, None)

    def _placed(self, event: TaskPlaced, at_ns: int) -> None:
        book, task = self._task(event.job, event.index)
        about = (event.job, *event.nodes)
        if task.open or task.over or event.attempt != task.attempt + 1:
            raise Violation(COMMIT, f"{event} follows attempt {task.attempt}, open: {task.open}", about)
        if book.ended or book.cancelled:
            raise Violation(CANCEL, f"{event} of a job that is cancelled or over", about)
        if (event.job, event.index) in self._cancelled_tasks:
            raise Violation(CANCEL, f"{event} of a task that was cancelled", about)
        self._check_lease(book, event, about)
        for awaited in book.request.after:
            before = self.jobs[awaited].ended
            if before is None or before.state is not JobState.DONE:
                raise Violation(ORDER, f"{event} though {awaited} is not done", (event.job, awaited))
        task.attempt, task.nodes, task.open, task.ends = event.attempt, event.nodes, True, {}
        book.leased += 1
        book.first_placed_ns = book.first_placed_ns or at_ns
        throttle = book.request.array.throttle if book.request.array else 0
        if throttle and book.leased > throttle:
            raise Violation(LEASE, f"{event.job} has {book.leased} tasks placed; its throttle is {throttle}", about)

    def _check_lease(self, book: JobBook, event: TaskPlaced, about: tuple[str, ...]) -> None:
        request = book.request
        if len(set(event.nodes)) != request.nodes:
            raise Violation(LEASE, f"{event}: {request.nodes} different nodes were asked for", about)
        for node in event.nodes:
            if node not in self.labels or node in self._shut or node in self._draining:
                raise Violation(LEASE, f"{event}: {node} takes no work now", about)
            for term in request.on:
                key, equals, value = term.partition("=")
                labels = self.labels[node]
                if labels.get(key) != value if equals else key not in labels:
                    raise Violation(LEASE, f"{event}: {node} is not {term}", about)

    def _step_ended(self, event: StepEnded, at_ns: int) -> None:
        _, task = self._task(event.job, event.index)
        if not task.open or event.attempt != task.attempt or event.rank in task.ends:
            raise Violation(COMMIT, f"{event} is not of the current attempt {task.attempt}", (event.job,))
        name = step_id(self._name(event.job, event.index), event.attempt, event.rank)
        if event.ended.outputs and self._made_by.get(event.ended.outputs) != name:
            raise Violation(COMMIT, f"{name} commits what {self._made_by.get(event.ended.outputs)} made", (event.job,))
        task.ends[event.rank] = event

    def _name(self, job: JobId, index: int) -> TaskId:
        return task_id(job, index if self.jobs[job].request.array else None)

    def _requeued(self, event: TaskRequeued, at_ns: int) -> None:
        book, task = self._task(event.job, event.index)
        self._close(book, task, event)
        task.losses += event.cause in (Cause.NODE_LOST, Cause.STEP_LOST)
        task.failures += event.cause is Cause.RETRY
        if task.failures > book.request.retries:
            raise Violation(BLAME, f"{event}: {task.failures} retries of {book.request.retries}", (event.job,))

    def _close(self, book: JobBook, task: TaskBook, event: TaskRequeued | TaskEnded) -> None:
        if not task.open or event.attempt != task.attempt or len(task.ends) != len(task.nodes):
            raise Violation(COMMIT, f"{event}: attempt {task.attempt}, ended {sorted(task.ends)}", (event.job,))
        task.open = False
        book.leased -= 1

    def _task_ended(self, event: TaskEnded, at_ns: int) -> None:
        book, task = self._task(event.job, event.index)
        if task.over is not None:
            raise Violation(COMMIT, f"{event} comes after {task.over}", (event.job,))
        if task.open:
            self._close(book, task, event)
        elif event.state is not TaskState.CANCELLED:
            raise Violation(COMMIT, f"{event}, and no attempt holds a lease", (event.job,))
        task.over = event
        deciding = [end for rank, end in task.ends.items() if rank == 0 or not book.request.elastic]
        good = all(end.ended.reason is Reason.EXIT and end.ended.exit_code == 0 for end in deciding)
        if event.state is TaskState.DONE and not (good and deciding):
            raise Violation(COMMIT, f"{event}, but its steps ended otherwise", (event.job,))
        if event.state is TaskState.FAILED:
            self._check_blame(event, task, deciding)

    def _check_blame(self, event: TaskEnded, task: TaskBook, ends: list[StepEnded]) -> None:
        """Nobody's job fails because a node died, the head was away or a clock jumped."""
        own = [end for end in ends if end.ended.reason in (Reason.EXIT, Reason.TIME)]
        own = [end for end in own if end.ended.exit_code != 0]
        lost = [end for end in ends if end.ended.reason is Reason.LOST]
        if not own and not (lost and task.losses >= 9):
            raise Violation(BLAME, f"{event} after {ends}", (event.job,))

    def _job_ended(self, event: JobEnded, at_ns: int) -> None:
        book = self.jobs[event.job]
        if book.ended is not None:
            raise Violation(COMMIT, f"{event} comes after {book.ended}", (event.job,))
        if book.leased:
            raise Violation(COMMIT, f"{event}, and {book.leased} of its tasks hold leases", (event.job,))
        book.ended = event
        size = len(book.request.array.indices) if book.request.array else 1
        states = [task.over.state for task in book.tasks.values() if task.over]
        if event.state is JobState.DONE and states != [TaskState.DONE] * size:
            raise Violation(COMMIT, f"{event} with {states} of {size}", (event.job,))
        if event.state is JobState.FAILED and TaskState.FAILED not in states:
            raise Violation(BLAME, f"{event} with {states}", (event.job,))

    def _released(self, event: JobReleased, at_ns: int) -> None:
        before = self.jobs[event.after].ended
        if before is None or before.state is not JobState.DONE:
            raise Violation(ORDER, f"{event}, and that is not done", (event.job, event.after))

    # Nodes.

    def _joined(self, event: NodeJoined, at_ns: int) -> None:
        self.labels[event.node] = event.labels

    def _silent(self, event: NodeSuspected | NodeLeft, at_ns: int) -> None:
        self._shut.add(event.node)
        if isinstance(event, NodeLeft):
            self._draining.discard(event.node)

    def _node_lost(self, event: NodeLost, at_ns: int) -> None:
        self._lost_ns.append(at_ns)
        minute = [one for one in self._lost_ns if at_ns - one < 60 * S_NS]
        if len(minute) > max(EVICTIONS_PER_MINUTE, len(self.labels) // 10):
            raise Violation(EVICTION, f"{len(minute)} of {len(self.labels)} nodes within a minute", (event.node,))

    def _node_back(self, event: NodeBack, at_ns: int) -> None:
        self._shut.discard(event.node)

    def _node_draining(self, event: NodeDraining, at_ns: int) -> None:
        self._draining.add(event.node)

    def _node_returned(self, event: NodeReturned, at_ns: int) -> None:
        self._draining.discard(event.node)

    # Deployments.

    def _deployed(self, event: DeploymentSet, at_ns: int) -> None:
        serving = event.serving
        self.served[event.deployment] = DeploymentBook(serving.replicas_min, serving.replicas_max, event.target)

    def _target_changed(self, event: TargetChanged, at_ns: int) -> None:
        book = self.served[event.deployment]
        if not book.least <= event.target <= book.most or event.target == book.target:
            raise Violation(SCALE, f"{event}: from {book.target}, between {book.least} and {book.most}")
        if event.target < book.target and book.changed_ns and at_ns - book.changed_ns < self._down_ns:
            raise Violation(SCALE, f"{event}: it had become {book.target} {(at_ns - book.changed_ns) / S_NS}s before")
        book.target, book.changed_ns = event.target, at_ns

    def _replica_started(self, event: ReplicaStarted, at_ns: int) -> None:
        self._replicas[event.job] = event.deployment
        count = sum(1 for deployment in self._replicas.values() if deployment == event.deployment)
        if count > self.served[event.deployment].target:
            raise Violation(SCALE, f"{event} is one of {count}; {self.served[event.deployment].target} are wanted")

    def _replica_leaves(self, event: ReplicaDraining | ReplicaGone, at_ns: int) -> None:
        self._replicas.pop(event.job, None)

    WATCH: ClassVar[dict[type, Callable[[Promises, Any, int], None]]] = {
        JobSubmitted: _submitted,
        JobCancelled: _cancelled,
        JobReleased: _released,
        JobEnded: _job_ended,
        TaskPlaced: _placed,
        StepEnded: _step_ended,
        TaskRequeued: _requeued,
        TaskEnded: _task_ended,
        NodeJoined: _joined,
        NodeSuspected: _silent,
        NodeLeft: _silent,
        NodeLost: _node_lost,
        NodeBack: _node_back,
        NodeDraining: _node_draining,
        NodeReturned: _node_returned,
        DeploymentSet: _deployed,
        TargetChanged: _target_changed,
        ReplicaStarted: _replica_started,
        ReplicaDraining: _replica_leaves,
        ReplicaGone: _replica_leaves,
    }


def difference(one: bytes, other: bytes) -> str:
    """Where two documents part."""
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    start = max(0, at - 200)
    return f"replayed {one[start : at + 100]!r}, living {other[start : at + 100]!r}"
