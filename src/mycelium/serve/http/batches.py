"""Batches at the doors of jobs: a batch is a job whose lines are its work, so it is listed, shown, explained and
cancelled like one.

An account sees its own; an admin sees all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from mycelium.base.errors import Missing, Refused
from mycelium.base.subject import Subject
from mycelium.base.units import MS_NS, S_NS
from mycelium.head.core import Core
from mycelium.head.history import about, event_view, pruned_part
from mycelium.head.views import time_view
from mycelium.inference.commands import CancelBatch
from mycelium.inference.domain import load
from mycelium.inference.model import BATCH_ENDED, Batch, BatchState
from mycelium.inference.progress import progress, state_of
from mycelium.jobs import keys
from mycelium.jobs.model import Array, Priority, Request
from mycelium.nodes.model import Devices
from mycelium.serve.http.auth import TheSubject
from mycelium.serve.http.ground import TheHead
from mycelium.serve.http.record import TheKeeper
from mycelium.serve.http.wire import ERRORS, answer

router = APIRouter(prefix="/jobs/batch_{rest}", tags=["batches"], responses=ERRORS)


def listed(core: Core, subject: Subject, *, ended_too: bool) -> Iterator[Batch]:
    """Newest first."""
    for batch in reversed(core.site.inference.batches.values()):
        wanted = ended_too or batch.state not in BATCH_ENDED
        if wanted and core.house.looks["a batch"].allows(subject, core.view, batch):
            yield batch


def find(core: Core, subject: Subject, rest: str) -> Batch:
    """A batch by the beginning of its name. Errors: `Missing`, `Refused`."""
    name = f"batch_{rest}"
    found = [batch for batch in listed(core, subject, ended_too=True) if batch.id.startswith(name)]
    if not found:
        raise Missing(f"{name[:64]} is not known", hint="`myc batch list` lists your batches")
    if len(found) > 1 and all(batch.id != name for batch in found):
        raise Refused(f"{len(found)} batches begin with {name[:64]}", hint="write more of the name")
    return next((batch for batch in found if batch.id == name), found[0])


def view(core: Core, batch: Batch, now_ns: int) -> dict[str, Any]:
    """In the words of a job: its lines are like the tasks of an array."""
    stands = progress(batch, core.site.inference, load(core.view, now_ns), now_ns)
    ended = batch.state in BATCH_ENDED
    left = batch.total - batch.completed - batch.failed
    return {
        "id": batch.id,
        "name": f"batch for {batch.model}" if batch.model else "batch",
        "account": core.site.accounts.by_id[batch.account].name,
        "state": stands.state,
        "attempt": 1,
        "nodes": [] if ended else _nodes(core, batch),
        "exit_code": None,
        "submitted": time_view(batch.created_ns),
        "started": time_view(batch.times_ns.get(BatchState.IN_PROGRESS.value, 0)),
        "ended": time_view(batch.times_ns.get(batch.state.value, 0)) if ended else None,
        "expected_s": None if stands.left_ms is None else round(stands.left_ms / 1000),
        "reason": None if ended else " ".join(stands.says),
        "message": stands.says[0] if ended else "",
        "command": None,
        "counts": {
            "size": batch.total,
            "waiting": 0 if ended else left - stands.running,
            "placed": 0,
            "running": stands.running,
            "stopping": 0,
            "done": batch.completed,
            "failed": batch.failed - batch.unrun,
            "cancelled": batch.unrun,
        },
        "request": keys.shown(_request(batch)),
        "batch": {
            "model": batch.model or None,
            "endpoint": batch.endpoint,
            "input_file": batch.input_file,
            "output_file": batch.output_file or None,
            "error_file": batch.error_file or None,
            "expires": time_view(batch.expires_ns),
            "prompt_tokens": batch.used.prompt_tokens,
            "completion_tokens": batch.used.completion_tokens,
        },
        "tasks": [],
    }


def _request(batch: Batch) -> Request:
    """As if its lines were the tasks of an array. It takes no devices: the replicas have theirs."""
    lines = Array(0, batch.total - 1) if batch.total else None
    time_ms = (batch.expires_ns - batch.created_ns) // MS_NS
    return Request(("batch",), "batch", Devices(), time_ms, priority=Priority.LOW, array=lines)


def _nodes(core: Core, batch: Batch) -> list[str]:
    """Where the replicas are that work on it."""
    found: set[str] = set()
    for replica in core.site.inference.replicas_of(batch.model):
        job = core.site.jobs.by_id.get(replica.job)
        task = job.tasks.get(0) if job else None
        if replica.ready_ns and task is not None and task.live_ranks():
            found.add(task.nodes[0])
    return sorted(found)


@router.get("", summary="Show a batch as the job that it is")
async def show(rest: str, head: TheHead, subject: TheSubject) -> Response:
    return answer(view(head.core, find(head.core, subject, rest), head.clock.now_ns()))


@router.post("/cancel", summary="Run no more lines of a batch")
async def cancel(rest: str, head: TheHead, subject: TheSubject) -> Response:
    """What was finished is kept. Cancelling what has ended changes nothing."""
    batch = find(head.core, subject, rest)
    if batch.state not in BATCH_ENDED:
        await head.ask(CancelBatch(batch.account, batch.id), subject)
    return answer(view(head.core, find(head.core, subject, rest), head.clock.now_ns()))


@router.get("/why", summary="How far a batch is, when it should be done, and what holds it up")
async def why(rest: str, head: TheHead, subject: TheSubject) -> Response:
    core, now_ns = head.core, head.clock.now_ns()
    batch = find(core, subject, rest)
    stands = progress(batch, core.site.inference, load(core.view, now_ns), now_ns)
    reasons = {"job": batch.id, "state": state_of(batch), "expected_ms": stands.left_ms, "now_s": now_ns // S_NS}
    return answer({"why": reasons, "says": list(stands.says)})


@router.get("/logs", include_in_schema=False)
@router.get("/outputs", include_in_schema=False)
async def files(rest: str, head: TheHead, subject: TheSubject) -> Response:
    batch = find(head.core, subject, rest)
    raise Refused(f"{batch.id} is a batch: it has results", hint=f"`myc batch results {batch.id}` writes them")


@router.get("/story", summary="Every event that touched a batch, in words")
async def story(rest: str, keeper: TheKeeper, head: TheHead, subject: TheSubject) -> Response:
    core = head.core
    batch = find(core, subject, rest)
    told = [event_view(core, entry, event) for entry, event in about(core, batch.id)]
    last_ns = batch.times_ns.get(batch.state.value, 0) if batch.state in BATCH_ENDED else head.clock.now_ns()
    pruned = await asyncio.to_thread(pruned_part, keeper.whole, batch.created_ns, last_ns)
    return answer({"story": told, "pruned": pruned})
