"""What the doors show of the state: plain documents, made from the records when somebody asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from mycelium.base.ids import NodeId
from mycelium.base.units import S_NS
from mycelium.head.core import Core
from mycelium.head.steps import step_name
from mycelium.jobs import keys
from mycelium.jobs.domain import index_of
from mycelium.jobs.model import ENDED, LEASED, Job, JobState, Site, Task, TaskState
from mycelium.jobs.why import reason
from mycelium.nodes.model import Devices, Node, NodeState

Document = dict[str, Any]


def time_view(at_ns: int) -> str | None:
    """ISO 8601 in UTC with milliseconds; None for a moment that has not come."""
    if not at_ns:
        return None
    return datetime.fromtimestamp(at_ns / S_NS, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def state_of(job: Job) -> str:
    """The word people read: for a job of one task that task's state, for an array the job's."""
    task = job.tasks.get(0) if job.request.array is None else None
    if task is not None and task.state in LEASED:
        return task.state.value
    return job.state.value


def job_view(core: Core, job: Job, now_ns: int) -> Document:
    waits = job.state in (JobState.BLOCKED, JobState.QUEUED) or (job.state not in ENDED and job.waiting > 0)
    attempts = [task.attempt for task in job.tasks.values()]
    nodes = sorted({node for task in job.tasks.values() if _shows_nodes(job, task) for node in task.nodes})
    return {
        "id": job.id,
        "name": job.request.name,
        "account": core.site.accounts.by_id[job.account].name,
        "state": state_of(job),
        "attempt": max(attempts, default=0),
        "nodes": nodes,
        "exit_code": job.exit_code,
        "submitted": time_view(job.submitted_ns),
        "started": time_view(job.started_ns),
        "ended": time_view(job.ended_ns),
        "reason": reason(core.site, index_of(core.view).queue, job, now_ns) if waits and not job.cancelled else None,
        "message": job.message,
        "command": list(job.request.command),
        "counts": task_counts(job),
        "request": keys.shown(job.request),
    }


def _shows_nodes(job: Job, task: Task) -> bool:
    return task.state in LEASED or job.state in ENDED


def task_counts(job: Job) -> Document:
    states = Counter(task.state for task in job.tasks.values())
    counts: Document = {"size": job.size, "waiting": job.waiting if job.state not in ENDED else 0}
    shown = (TaskState.PLACED, TaskState.RUNNING, TaskState.STOPPING, TaskState.DONE)
    counts.update({state.value: states[state] for state in (*shown, TaskState.FAILED, TaskState.CANCELLED)})
    if job.state in ENDED:  # a cancelled job's tasks that never started are no records, and cancelled all the same
        counts[TaskState.CANCELLED.value] += job.size - job.ended
    return counts


def task_view(job: Job, task: Task) -> Document:
    ends = [end for end in task.ends if end is not None]
    return {
        "id": job.task_name(task.index),
        "index": task.index if job.request.array else None,
        "state": task.state.value,
        "attempt": task.attempt,
        "nodes": list(task.nodes),
        "exit_code": task.exit_code,
        "placed": time_view(task.placed_ns),
        "started": time_view(task.started_ns),
        "ended": time_view(task.ended_ns),
        "message": task.message,
        "cpu_ms": sum(end.cpu_ms for end in ends),
        "memory_peak_bytes": max((end.memory_peak_bytes for end in ends), default=0),
    }


def node_view(core: Core, node: Node) -> Document:
    leased = [
        (job, task, rank)
        for job, task in index_of(core.view).leased_on(core.site, node.id)
        for rank in task.live_ranks()
        if task.nodes[rank] == node.id
    ]
    used = Devices()
    for job, _, _ in leased:
        used += job.request.needs
    return {
        "id": node.id,
        "name": node.name,
        "state": node.state.value,
        "since": time_view(node.since_ns),
        "joined": time_view(node.joined_ns),
        "devices": devices_view(node.devices),
        "free": devices_view(node.devices - used),
        "labels": node.labels,
        "address": node.address,
        "drained_by": node.drain_reason or None,
        "lost_count": node.lost_count,
        "steps": [step_name(job, task, rank) for job, task, rank in leased],
    }


def devices_view(devices: Devices) -> Document:
    return {"cpus": devices.cpu_m / 1000, "memory": devices.memory_bytes, "gpus": devices.gpus}


def account_view(site: Site, name: str, now_ns: int) -> Document:
    account = next(account for account in site.accounts.by_id.values() if name in (account.id, account.name))
    return {
        "id": account.id,
        "name": account.name,
        "role": account.role.value,
        "weight": account.weight,
        "created": time_view(account.created_ns),
        "used_cpu_seconds": round(account.usage.spent_at(now_ns), 1),
        "holds_cpus": account.usage.rate_m / 1000,
    }


def status_view(core: Core, now_ns: int) -> Document:
    site = core.site
    states = Counter(state_of(job) for job in site.jobs.by_id.values())
    alive = [node for node in site.nodes.by_id.values() if node.state is not NodeState.LEFT]
    return {
        "now": time_view(now_ns),
        "nodes": dict(Counter(node.state.value for node in alive)),
        "jobs": dict(states),
        "devices": {"total": devices_view(_total(alive)), "used": devices_view(_used(core, alive))},
        "accounts": len(site.accounts.by_id),
        "events": core.log.last_seq,
    }


def _total(nodes: Sequence[Node]) -> Devices:
    return sum((node.devices for node in nodes if node.open), Devices())


def _used(core: Core, nodes: Sequence[Node]) -> Devices:
    ids: set[NodeId] = {node.id for node in nodes if node.open}
    used = Devices()
    for node in ids:
        for job, task in index_of(core.view).leased_on(core.site, node):
            used += job.request.needs * sum(1 for rank in task.live_ranks() if task.nodes[rank] == node)
    return used


def plain(value: Any) -> Any:
    """Any record as JSON-able builtins."""
    return msgspec.to_builtins(value)
