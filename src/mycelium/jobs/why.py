"""Why a job waits, when it is expected to start, and what would start it sooner; the same for one not yet submitted.

All of it is the plan's own doing: `forecast.py` runs it forward, `change.py` tries it on changed requests. `reason` is
the short form for listings, without a pass.
Never: changes anything, or promises: what an answer rests on is part of it.
"""

from __future__ import annotations

from msgspec.structs import replace

from mycelium.base.ids import AccountId, JobId, job_id, number_of
from mycelium.base.limits import PLACEMENTS_PER_PASS
from mycelium.jobs import binds
from mycelium.jobs.answer import Bind, Binding, Change, Why, say
from mycelium.jobs.change import smallest_change
from mycelium.jobs.forecast import Expected, Outlook, Sure, after, forecast
from mycelium.jobs.model import ENDED, LEASED, Job, JobState, Priority, Request, Site, Task, TaskState
from mycelium.jobs.plan import Pass, Placement
from mycelium.jobs.queue import Queue, shape_of
from mycelium.jobs.standing import standing


def why(
    site: Site, queue: Queue, job_id: JobId, index: int | None, now_ns: int, highest: Priority = Priority.HIGH
) -> Why:
    """Why a job, or one task of it, does what it does. `highest` bounds the priority that may be suggested.

    Errors: KeyError for a job that the site does not hold; callers look it up first.
    """
    job = site.jobs.by_id[job_id]
    bind = _settled(job, index)
    if bind is not None:
        return Why(job.id, index, str(job.state), now_ns, (bind,))
    return _waiting(site, queue, job, index, now_ns, highest, submitted=True)


def dry_run(
    site: Site, queue: Queue, request: Request, account: AccountId, now_ns: int, highest: Priority = Priority.HIGH
) -> Why:
    """What would become of a request, were it submitted now."""
    still = tuple(name for name in request.after if name in site.jobs.by_id and not _over(site, name))
    state = JobState.BLOCKED if still else JobState.QUEUED
    job = Job(job_id(site.jobs.next_number), account, request, state, now_ns, waits_for=still)
    return _waiting(site, queue, job, None, now_ns, highest, submitted=False)


def reason(site: Site, queue: Queue, job: Job, now_ns: int) -> str:
    """The short form for a listing; empty for a job of which nothing waits. Cost: some tens of microseconds."""
    if _settled(job, None) is not None:
        return ""
    return (binds.cannot_now(job, site) or binds.waiting(job, queue.table)).text


def _over(site: Site, name: JobId) -> bool:
    return site.jobs.by_id[name].state in ENDED


def _settled(job: Job, index: int | None) -> Bind | None:
    """What there is to say of a job, or a task, that does not wait."""
    if job.state in ENDED and (index is None or index not in job.tasks):
        unstarted = f"{job.task_name(index)} never started: " if index is not None else ""
        outcome = _outcome(job.exit_code, job.message)
        return Bind(Binding.ENDED, f"{unstarted}{job.id} has ended: it is {job.state}{outcome}")
    if index is not None:
        return _settled_task(job, job.tasks.get(index), index)
    if job.cancelled:
        return Bind(Binding.CANCELLED, f"{job.id} is cancelled, and ends when its {job.leased:,} running tasks have")
    if job.waiting > 0:
        return None
    only = next(iter(job.tasks.values()), None)
    if job.request.array is None and only is not None:
        return _settled_task(job, only, 0)
    return Bind(Binding.RUNNING, f"{job.id} waits for nothing: {job.leased:,} tasks run and {job.ended:,} have ended")


def _outcome(exit_code: int | None, message: str) -> str:
    with_code = f" with exit code {exit_code}" if exit_code is not None else ""
    return with_code + (f": {message}" if message else "")


def _settled_task(job: Job, task: Task | None, index: int) -> Bind | None:
    name = job.task_name(index)
    if task is not None and task.state in LEASED:
        verb = {TaskState.PLACED: "is being started", TaskState.STOPPING: "is being stopped"}.get(task.state, "runs")
        return Bind(Binding.RUNNING, f"{name} {verb} on {', '.join(task.nodes)}")
    if task is not None and task.state is not TaskState.QUEUED:
        return Bind(Binding.ENDED, f"{name} has ended: it is {task.state}{_outcome(task.exit_code, task.message)}")
    if job.cancelled:
        return Bind(Binding.CANCELLED, f"{job.id} is cancelled: {name} will not start")
    return None


def _waiting(
    site: Site, queue: Queue, job: Job, index: int | None, now_ns: int, highest: Priority, *, submitted: bool
) -> Why:
    outlook = Outlook(site, queue, now_ns)
    state = str(job.state) if submitted else "not submitted"
    name = job.id if submitted else None
    looked = Pass(outlook.world(job), watch=shape_of(job.request))
    given = looked.run(PLACEMENTS_PER_PASS, until=number_of(job.id))
    mine = given[-1] if given and given[-1].job.id == job.id else None
    bind = binds.cannot_now(job, site)
    if bind is None and mine is not None and index in (None, mine.index):
        return Why(name, index, state, now_ns, (_now(queue, mine, submitted),), None, _at_once(queue, mine, now_ns))
    if bind is None and mine is not None:
        bind = Bind(Binding.TURN, f"the tasks of {job.id} start in their order, and others are before {index}")
    if bind is None:
        bind = binds.waiting(job, queue.table, looked)
    if job.state is JobState.BLOCKED:
        return Why(name, index, state, now_ns, (bind,), None, after(outlook, job))
    expected = forecast(outlook, job, index=index)
    if expected.by_averages:
        at_limits = forecast(outlook, job, index=index, use_means=False)
        expected = replace(expected, at_limits_ms=at_limits.in_ms)
    change: Change | None = None
    if mine is None:
        change = smallest_change(outlook, job, looked, expected, highest, index)
    place = standing(site, queue, job, now_ns, index)
    return Why(name, index, state, now_ns, (bind,), place, expected, change, mine is None)


def _now(queue: Queue, mine: Placement, submitted: bool) -> Bind:
    nodes = ", ".join(queue.table.ids[slot] for slot in mine.slots)
    return Bind(Binding.NOTHING, f"it starts now on {nodes}" if submitted else f"it would start now on {nodes}")


def _at_once(queue: Queue, mine: Placement, now_ns: int) -> Expected:
    return Expected(Sure.NOW, now_ns, 0, tuple(queue.table.ids[slot] for slot in mine.slots))


__all__ = ["Why", "dry_run", "reason", "say", "why"]
