"""The life of a job: what may happen to it.

`decide_…` turn a wish or a report into events, or refuse; what the events change is in apply.py.
Only the current attempt of a task can end it: whatever an older attempt still says leads to no event at all.
Never: reads a clock, opens a file, or knows how a node is reached.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from mycelium.base.errors import Missing
from mycelium.base.ids import JobId, NodeId, number_of
from mycelium.base.limits import LOSSES_MAX
from mycelium.jobs.events import (
    JobCancelled,
    JobEnded,
    JobEvent,
    JobReleased,
    StepEnded,
    StepStarted,
    TaskEnded,
    TaskPlaced,
    TaskRequeued,
    TaskStopping,
)
from mycelium.jobs.index import Index
from mycelium.jobs.model import (
    ENDED,
    LEASED,
    TASK_ENDED,
    Cause,
    Ended,
    Job,
    JobState,
    Reason,
    Site,
    Task,
    TaskState,
)
from mycelium.jobs.plan import Place
from mycelium.nodes.events import NodeDraining, NodeEvent, NodeLost

QUEUED, PLACED, RUNNING, STOPPING = TaskState.QUEUED, TaskState.PLACED, TaskState.RUNNING, TaskState.STOPPING
DONE, FAILED, CANCELLED = TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED

# A task's life: from which states each event may come. What is not here cannot happen, and whoever reports it is late.
FROM: dict[type, frozenset[TaskState]] = {
    TaskPlaced: frozenset({QUEUED}),
    StepStarted: frozenset({PLACED, STOPPING}),  # STOPPING: the order to stop crossed the start
    TaskStopping: frozenset({PLACED, RUNNING, STOPPING}),  # STOPPING: a cancel overrides whatever it was stopped for
    TaskRequeued: LEASED,  # PLACED: its node died before it began, and nothing is lost
    TaskEnded: LEASED | {QUEUED},  # QUEUED: cancelled between two attempts
}


class Outcome(Struct, frozen=True):
    """What becomes of a task whose attempt is over: `again` says why it is queued again, else it ends in `state`."""

    again: Cause | None
    state: TaskState
    exit_code: int
    message: str


# What people ask of a job that there is.


def find(site: Site, job: JobId) -> Job:
    """Errors: `Missing`."""
    found = site.jobs.by_id.get(job)
    if found is None:
        raise Missing(f"{job} is not known", hint="`myc jobs --all` lists the jobs")
    return found


def decide_cancel(site: Site, index: Index, job: JobId, position: int | None, by: str) -> list[JobEvent]:
    """Cancel a job, or one task of an array. Cancelling what has ended changes nothing.

    Errors: `Missing`.
    """
    found = find(site, job)
    if position is not None:
        return _cancel_task(index, site, found, position, by)
    if found.state in ENDED or found.cancelled:
        return []
    events: list[JobEvent] = [JobCancelled(found.id, by)]
    for task in found.tasks.values():
        events += decide_stop(found, task, Cause.CANCEL, by)
    if found.leased == 0:
        events += _job_over(site, index, found, JobState.CANCELLED, 143, f"cancelled by {by}")
    return events


def _cancel_task(index: Index, site: Site, job: Job, position: int, by: str) -> list[JobEvent]:
    if job.request.array is None or position not in job.request.array.indices:
        raise Missing(f"{job.id} has no task {position}", hint=f"`myc job show {job.id}` shows its range")
    task = job.tasks.get(position)
    if job.state in ENDED or (task is not None and task.state in TASK_ENDED):
        return []
    if task is not None and task.state in LEASED:
        return decide_stop(job, task, Cause.CANCEL, by)
    attempt = task.attempt if task else 0
    outcome = Outcome(None, CANCELLED, 143, f"cancelled by {by}")
    return _task_over(site, index, job, position, attempt, outcome)


# What the plan and the nodes bring.


def decide_place(site: Site, index: Index, place: Place) -> list[JobEvent]:
    """The lease that the plan chose, as the next attempt of its task."""
    job = site.jobs.by_id[place.job]
    task = job.tasks.get(place.index)
    attempt = task.attempt + 1 if task else 1
    port = _free_port(site, index, place.nodes[0], number_of(job.id) + attempt) if len(place.nodes) > 1 else 0
    return [TaskPlaced(job.id, place.index, attempt, place.nodes, port)]


def _free_port(site: Site, index: Index, node: NodeId, turn: int) -> int:
    """A port that the node holds and no gang has; 0 when there is none. They take turns, because what an earlier gang
    left there may still be closing."""
    held = site.nodes.by_id[node].ports
    taken = {task.port for _, task in index.leased_on(site, node)}
    ports = (held[(turn + step) % len(held)] for step in range(len(held)))
    return next((port for port in ports if port not in taken), 0)


def current(site: Site, job: JobId, index: int | None, attempt: int, rank: int) -> tuple[Job, Task] | None:
    """The task whose current attempt has this step still alive; None for an older attempt or an unknown step."""
    found = site.jobs.by_id.get(job)
    task = found.tasks.get(index or 0) if found else None
    if found is None or task is None or task.attempt != attempt or rank not in task.live_ranks():
        return None
    return found, task


def decide_started(job: Job, task: Task, rank: int, started_ns: int) -> list[JobEvent]:
    """The first step of the current attempt runs. Nothing, when that is known already."""
    if task.started_ns or task.state not in FROM[StepStarted]:
        return []
    return [StepStarted(job.id, task.index, task.attempt, rank, started_ns)]


def decide_ended(
    site: Site, index: Index, job: Job, task: Task, ranks: Sequence[int], ended: Ended, lost: Cause = Cause.STEP_LOST
) -> list[JobEvent]:
    """Steps of the current attempt ended: stop its other ranks after a bad end, settle the task after the last one.

    `lost` says why steps with the reason LOST were lost. Of an elastic gang only the end of rank 0 means anything.
    """
    events: list[JobEvent] = [StepEnded(job.id, task.index, task.attempt, rank, ended) for rank in ranks]
    ends = tuple(ended if rank in ranks else end for rank, end in enumerate(task.ends))
    elastic = job.request.elastic
    if None in ends:
        over = 0 in ranks if elastic else bad(ended)
        cause = lost if ended.reason is Reason.LOST else Cause.LEAD if elastic else Cause.GANG
        return events + (decide_stop(job, task, cause, "") if over else [])
    if elastic:
        lost = lost if 0 in ranks else Cause.STEP_LOST
    counted = ends[:1] if elastic else ends
    outcome = outcome_of(job, task, [end for end in counted if end is not None], lost)
    return events + _task_over(site, index, job, task.index, task.attempt, outcome)


def spare(job: Job, rank: int) -> bool:
    """Whether the attempt goes on without this rank."""
    return job.request.elastic and rank > 0


def bad(ended: Ended) -> bool:
    return ended.reason is not Reason.EXIT or ended.exit_code != 0


def outcome_of(job: Job, task: Task, ends: Sequence[Ended], lost: Cause = Cause.STEP_LOST) -> Outcome:
    """What becomes of a task now that all its steps have ended: the one place that says who is tried again."""
    if not any(bad(end) for end in ends):
        # It finished, whatever was on its way to stop it. What it left out of its outputs is worth a word.
        return Outcome(None, DONE, 0, next((end.message for end in ends if end.message), ""))
    ill = [end for end in ends if bad(end)]
    culprit = next((end for end in ill if end.reason is not Reason.STOPPED), ill[0])
    if job.cancelled or task.cause is Cause.CANCEL:
        return Outcome(None, CANCELLED, culprit.exit_code or 143, culprit.message)
    if task.cause in (Cause.DRAIN, Cause.SITE_DOWN) and lost is not Cause.NODE_LOST:
        return Outcome(task.cause, QUEUED, culprit.exit_code, "")
    if _was_lost(task, ill, culprit):
        return _lost(task, culprit, Cause.NODE_LOST if task.cause is Cause.NODE_LOST else lost)
    message = culprit.message or ("passed its time limit" if task.cause is Cause.TIME else "")
    message = message or EXPLAINED.get(culprit.reason, "").format(code=culprit.exit_code)
    if task.failures < job.request.retries:
        return Outcome(Cause.RETRY, QUEUED, culprit.exit_code, message)
    return Outcome(None, FAILED, culprit.exit_code or 1, message)


def _was_lost(task: Task, ill: Sequence[Ended], culprit: Ended) -> bool:
    """Whether it ended through no doing of its own. In a gang, what ended first decides: `GANG` is a failure."""
    if any(end.reason is Reason.LOST for end in ill):
        return task.cause is not Cause.GANG
    return task.cause is Cause.STEP_LOST and culprit.reason is Reason.STOPPED


def _lost(task: Task, culprit: Ended, lost: Cause) -> Outcome:
    if task.losses + 1 < LOSSES_MAX:
        return Outcome(lost, QUEUED, culprit.exit_code, culprit.message)
    return Outcome(
        None, FAILED, culprit.exit_code or 137, f"lost {task.losses + 1} attempts; it may be what kills them"
    )


EXPLAINED = {
    Reason.EXIT: "exited with {code}",
    Reason.TIME: "reached its time limit",
    Reason.MEMORY: "used more memory than it asked for",
    Reason.DISK: "wrote more than it may",
    Reason.FAILED_START: "could not be started",
    Reason.STOPPED: "was stopped",
}


def decide_node_event(site: Site, index: Index, event: NodeEvent, job: Job, task: Task) -> list[JobEvent]:
    """What a node's event means for one of the tasks that hold it."""
    if isinstance(event, NodeLost):
        ended = Ended(Reason.LOST, 137, f"{event.node} was lost: {event.why}")
        return decide_ended(site, index, job, task, _ranks_on(task, event.node), ended, Cause.NODE_LOST)
    if isinstance(event, NodeDraining) and event.now:
        return decide_stop(job, task, Cause.DRAIN, event.by)
    return []


def decide_stop(job: Job, task: Task, cause: Cause, by: str) -> list[JobEvent]:
    """Stop an attempt; what becomes of its task follows from the cause, when its steps are gone."""
    if task.state not in FROM[TaskStopping]:
        return []
    if task.state is STOPPING and (cause is not Cause.CANCEL or task.cause is Cause.CANCEL):
        return []
    return [TaskStopping(job.id, task.index, task.attempt, cause, by)]


def _ranks_on(task: Task, node: NodeId) -> list[int]:
    return [rank for rank in task.live_ranks() if task.nodes[rank] == node]


def _task_over(site: Site, index: Index, job: Job, position: int, attempt: int, outcome: Outcome) -> list[JobEvent]:
    if outcome.again is not None and not job.cancelled:
        return [TaskRequeued(job.id, position, attempt, outcome.again, outcome.message)]
    state = outcome.state if outcome.again is None else CANCELLED
    over = TaskEnded(job.id, position, attempt, state, outcome.exit_code, outcome.message)
    known = job.tasks.get(position)
    leased = job.leased - (1 if known is not None and known.state in LEASED else 0)
    ended = job.ended + 1
    if leased or (ended < job.size and not job.cancelled):
        return [over]
    if job.cancelled and (ended < job.size or state is CANCELLED):
        return [over, *_job_over(site, index, job, JobState.CANCELLED, outcome.exit_code, outcome.message)]
    return [over, *_verdict(site, index, job, over)]


def _verdict(site: Site, index: Index, job: Job, last: TaskEnded) -> list[JobEvent]:
    """The job's end, now that its last task has ended."""
    ends = [(task.state, task.exit_code or 0) for task in job.tasks.values() if task.state in TASK_ENDED]
    ends.append((last.state, last.exit_code))
    failed = [code for state, code in ends if state is FAILED]
    if job.size == 1:
        state = JobState(last.state.value)
        return _job_over(site, index, job, state, last.exit_code, last.message)
    if failed:
        message = f"{len(failed)} of {job.size} tasks failed"
        return _job_over(site, index, job, JobState.FAILED, max(failed), message)
    cancelled = sum(1 for state, _ in ends if state is CANCELLED)
    if cancelled:
        message = f"{cancelled} of {job.size} tasks were cancelled"
        return _job_over(site, index, job, JobState.CANCELLED, 143, message)
    return _job_over(site, index, job, JobState.DONE, 0, "")


def _job_over(site: Site, index: Index, job: Job, state: JobState, exit_code: int, message: str) -> list[JobEvent]:
    """The end of a job, and what it means for those that come after it: released, or cancelled with all behind them."""
    events: list[JobEvent] = [JobEnded(job.id, state, exit_code, message)]
    if state is JobState.DONE:
        for waiter in sorted(index.waiters.get(job.id, ()), key=number_of):
            still = tuple(other for other in site.jobs.by_id[waiter].waits_for if other != job.id)
            events.append(JobReleased(waiter, job.id, still))
        return events
    doomed, seen = [job.id], {job.id}
    for cause in doomed:  # grows while it is walked: a breadth-first cascade
        for waiter in sorted(index.waiters.get(cause, ()), key=number_of):
            if waiter in seen or site.jobs.by_id[waiter].state in ENDED:
                continue
            seen.add(waiter)
            doomed.append(waiter)
            became = state.value if cause == job.id else "cancelled"
            why = f"{cause} {'failed' if became == 'failed' else 'was cancelled'}, and this comes after it"
            events += [JobCancelled(waiter, "site", why), JobEnded(waiter, JobState.CANCELLED, 143, why)]
    return events


def due_for_archive(
    site: Site, index: Index, now_ns: int, retain_ns: int, retain_max: int, most: int
) -> Iterable[JobId]:
    """The ended jobs that leave memory now, oldest first. One whose outputs a living job takes in stays."""
    surplus, given = len(site.jobs.ended) - retain_max, 0
    for position, (job, ended_ns) in enumerate(site.jobs.ended.items()):
        if given >= most or (position >= surplus and now_ns - ended_ns < retain_ns):
            return
        if job not in index.takers:
            given += 1
            yield job
