"""What each event of a job changes: the only code that changes jobs.

Never: refuses, because what is in the log has happened; reads a clock: the moment of the event comes in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from mycelium.accounts.rules import hold
from mycelium.base.ids import number_of
from mycelium.base.limits import KEYS_KEPT_S
from mycelium.base.units import S_NS
from mycelium.jobs.events import (
    JobArchived,
    JobCancelled,
    JobEnded,
    JobEvent,
    JobReleased,
    JobSubmitted,
    StepEnded,
    StepStarted,
    TaskEnded,
    TaskPlaced,
    TaskRequeued,
    TaskStopping,
)
from mycelium.jobs.index import Index
from mycelium.jobs.model import LEASED, Cause, IdempotencyKey, Job, JobState, Site, Task, TaskState
from mycelium.jobs.share import rate_m

QUEUED, PLACED, RUNNING, STOPPING = TaskState.QUEUED, TaskState.PLACED, TaskState.RUNNING, TaskState.STOPPING
FAILED = TaskState.FAILED


def apply(site: Site, index: Index, event: JobEvent, at_ns: int) -> None:
    """Change the site by one event of a job. Never refuses: what is in the log has happened."""
    APPLY[type(event)](site, index, event, at_ns)


def _keep(site: Site, index: Index, job: Job) -> None:
    site.jobs.by_id[job.id] = job
    index.queue.refresh(job)


def _submitted(site: Site, index: Index, event: JobSubmitted, at_ns: int) -> None:
    state = JobState.BLOCKED if event.waits_for else JobState.QUEUED
    job = Job(event.job, event.account, event.request, state, at_ns, waits_for=event.waits_for)
    site.jobs.next_number = max(site.jobs.next_number, number_of(event.job) + 1)
    for awaited in event.waits_for:
        index.waiters.setdefault(awaited, set()).add(job.id)
    index.takes(job)
    if event.key:
        _remember(site, event, at_ns)
    _keep(site, index, job)


def _remember(site: Site, event: JobSubmitted, at_ns: int) -> None:
    keys = site.jobs.keys
    for name, key in keys.items():  # oldest first: the first young one ends the search
        if at_ns - key.at_ns <= KEYS_KEPT_S * S_NS:
            break
        del keys[name]
        break  # one for each that comes in keeps the table bounded, and each event cheap
    name = f"{event.account}/{event.key}"
    known = keys.get(name)
    jobs = (*known.jobs, event.job) if known and known.print == event.print else (event.job,)
    keys[name] = IdempotencyKey(jobs, at_ns, event.print)


def _released(site: Site, index: Index, event: JobReleased, at_ns: int) -> None:
    job = site.jobs.by_id[event.job]
    index.waits_no_more(job.id, event.after)
    state = job.state if event.still or job.state is not JobState.BLOCKED else JobState.QUEUED
    _keep(site, index, replace(job, waits_for=event.still, state=state))


def _cancelled(site: Site, index: Index, event: JobCancelled, at_ns: int) -> None:
    _keep(site, index, replace(site.jobs.by_id[event.job], cancelled=True))


def _ended(site: Site, index: Index, event: JobEnded, at_ns: int) -> None:
    job = site.jobs.by_id[event.job]
    for awaited in job.waits_for:
        index.waits_no_more(job.id, awaited)
    index.waiters.pop(job.id, None)
    index.takes_no_more(job)
    site.jobs.ended[job.id] = at_ns
    _keep(
        site,
        index,
        replace(
            job,
            state=event.state,
            ended_ns=at_ns,
            exit_code=event.exit_code,
            message=event.message,
            waits_for=(),
        ),
    )


def _archived(site: Site, index: Index, event: JobArchived, at_ns: int) -> None:
    site.jobs.by_id.pop(event.job, None)
    site.jobs.ended.pop(event.job, None)
    index.queue.drop(event.job)


def _placed(site: Site, index: Index, event: TaskPlaced, at_ns: int) -> None:
    job = site.jobs.by_id[event.job]
    known = job.tasks.get(event.index)
    task = replace(
        known or Task(event.index, QUEUED),
        state=PLACED,
        attempt=event.attempt,
        nodes=event.nodes,
        ends=(None,) * len(event.nodes),
        cause=None,
        placed_ns=at_ns,
        started_ns=0,
        ended_ns=0,
        exit_code=None,
        message="",
        port=event.port,
    )
    job.tasks[event.index] = task
    again = job.again if known is None else tuple(index for index in job.again if index != event.index)
    job = replace(job, state=JobState.RUNNING, again=again, cursor=_advanced(job), leased=job.leased + 1)
    hold(site.accounts, job.account, rate_m(job.request.needs) * len(event.nodes), at_ns)
    index.lease(job, task)
    _keep(site, index, job)


def _advanced(job: Job) -> int:
    cursor = job.cursor
    while cursor < job.size and job.index_at(cursor) in job.tasks:
        cursor += 1
    return cursor


def _started(site: Site, index: Index, event: StepStarted, at_ns: int) -> None:
    job = site.jobs.by_id[event.job]
    task = job.tasks[event.index]
    job.tasks[event.index] = replace(
        task,
        state=RUNNING if task.state is PLACED else task.state,
        started_ns=task.started_ns or event.started_ns,
    )
    _keep(site, index, replace(job, started_ns=job.started_ns or event.started_ns))


def _step_ended(site: Site, index: Index, event: StepEnded, at_ns: int) -> None:
    job = site.jobs.by_id[event.job]
    task = job.tasks[event.index]
    index.release(job, task, event.rank)
    hold(site.accounts, job.account, -rate_m(job.request.needs), at_ns)
    ends = tuple(event.ended if rank == event.rank else end for rank, end in enumerate(task.ends))
    job.tasks[event.index] = replace(task, ends=ends)


def _stopping(site: Site, index: Index, event: TaskStopping, at_ns: int) -> None:
    job = site.jobs.by_id[event.job]
    job.tasks[event.index] = replace(job.tasks[event.index], state=STOPPING, cause=event.cause)


def _requeued(site: Site, index: Index, event: TaskRequeued, at_ns: int) -> None:
    job = site.jobs.by_id[event.job]
    task = job.tasks[event.index]
    lost = event.cause in (Cause.NODE_LOST, Cause.STEP_LOST)
    job.tasks[event.index] = replace(
        task,
        state=QUEUED,
        cause=event.cause,
        losses=task.losses + lost,
        failures=task.failures + (event.cause is Cause.RETRY),
        message=event.message,
    )
    leased = job.leased - 1
    state = JobState.RUNNING if leased or job.ended else JobState.QUEUED
    again = tuple(sorted((*job.again, event.index)))
    _keep(site, index, replace(job, state=state, again=again, leased=leased))


def _task_ended(site: Site, index: Index, event: TaskEnded, at_ns: int) -> None:
    job = site.jobs.by_id[event.job]
    task = job.tasks.get(event.index) or Task(event.index, QUEUED)
    was_leased = task.state in LEASED
    job.tasks[event.index] = replace(
        task, state=event.state, ended_ns=at_ns, exit_code=event.exit_code, message=event.message
    )
    job = replace(
        job,
        leased=job.leased - was_leased,
        ended=job.ended + 1,
        failed=job.failed + (event.state is FAILED),
        again=tuple(index for index in job.again if index != event.index),
    )
    _keep(site, index, replace(job, cursor=_advanced(job)))


APPLY: dict[type, Callable[[Site, Index, Any, int], None]] = {
    JobSubmitted: _submitted,
    JobReleased: _released,
    JobCancelled: _cancelled,
    JobEnded: _ended,
    JobArchived: _archived,
    TaskPlaced: _placed,
    StepStarted: _started,
    StepEnded: _step_ended,
    TaskStopping: _stopping,
    TaskRequeued: _requeued,
    TaskEnded: _task_ended,
}
