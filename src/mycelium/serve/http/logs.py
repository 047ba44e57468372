"""A job's output as one stream: what is kept from the store, what runs from its agent, attempt after attempt."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from msgspec import Struct

from mycelium.base.errors import Problem
from mycelium.base.ids import Digest, JobId
from mycelium.base.limits import LOG_CHUNK_BYTES
from mycelium.head import views
from mycelium.head.history import about
from mycelium.head.loop import Head
from mycelium.head.steps import step_name
from mycelium.jobs.events import StepEnded
from mycelium.jobs.model import ENDED, LEASED, TASK_ENDED, Ended, Job
from mycelium.store.objects import Objects

QUIET_S = 10.0  # after this long without anything, a sign of life is sent
LOOK_AGAIN_S = 0.5
PIECES_WAITING_MAX = 64

Piece = tuple[str, Any]


class StreamSource(Struct, frozen=True):
    """One stream of one step."""

    job: JobId
    index: int
    attempt: int
    rank: int
    stream: str


async def follow_job(
    head: Head,
    objects: Objects,
    job: Job,
    index: int | None,
    attempt: int | None,
    rank: int | None,
    streams: Sequence[str],
    offsets: dict[str, int],
    follow: bool,
) -> AsyncIterator[Piece]:
    """The pieces of a job's log in the order of its tasks, then `end` with the job."""
    with head.following(job.id) as changed:
        position = 0
        while True:
            indices = [index] if index is not None else _started(head, job)[position:]
            for chosen in indices:
                async for piece in _follow_task(head, objects, job, chosen, attempt, rank, streams, offsets, follow):
                    yield piece
                position += 1
            if not follow or _over(head, job) or index is not None:
                break
            if not await _wait(changed):
                yield "", None
    yield "end", views.job_view(head.core, _now(head, job), head.clock.now_ns())


def _now(head: Head, job: Job) -> Job:
    """The job as it is now; as it was, when it has gone to the archive meanwhile."""
    return head.core.site.jobs.by_id.get(job.id, job)


def _started(head: Head, job: Job) -> list[int]:
    return list(_now(head, job).tasks)


def _over(head: Head, job: Job) -> bool:
    return _now(head, job).state in ENDED


async def _wait(changed: asyncio.Event, seconds: float = QUIET_S) -> bool:
    """Wait until something happened to the job; False when nothing did."""
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        return False
    changed.clear()
    return True


async def _follow_task(
    head: Head,
    objects: Objects,
    job: Job,
    index: int,
    attempt: int | None,
    rank: int | None,
    streams: Sequence[str],
    offsets: dict[str, int],
    follow: bool,
) -> AsyncIterator[Piece]:
    """One task: the attempt that was asked for, or the current one and, when following, those that come after it."""
    told = 0
    with head.following(job.id) as changed:
        while True:
            task = _now(head, job).tasks.get(index)
            if task is not None and task.attempt > told:
                told = task.attempt
                ranks = range(len(task.nodes)) if rank is None else [rank]
                sources = [StreamSource(job.id, index, attempt or told, r, stream) for r in ranks for stream in streams]
                async for piece in _merge(head, objects, job, sources, offsets, follow):
                    yield piece
                if attempt is not None:
                    return
                offsets = dict.fromkeys(offsets, 0)
                continue
            over = task is not None and task.state in TASK_ENDED
            if not follow or over or _over(head, job):
                return
            if not await _wait(changed):
                yield "", None


async def _merge(
    head: Head, objects: Objects, job: Job, sources: Sequence[StreamSource], offsets: dict[str, int], follow: bool
) -> AsyncIterator[Piece]:
    """The pieces of several streams as they come."""
    queue: asyncio.Queue[Piece | None] = asyncio.Queue(PIECES_WAITING_MAX)

    async def pump(source: StreamSource) -> None:
        try:
            async for offset, data in _pieces(head, objects, job, source, offsets[source.stream], follow):
                document = {
                    "task": job.task_name(source.index),
                    "attempt": source.attempt,
                    "rank": source.rank,
                    "offset": offset,
                    "data": base64.b64encode(data).decode(),
                }
                await queue.put((source.stream, document))
        except Problem as problem:
            await queue.put(("problem", problem.body()))
        finally:
            await queue.put(None)

    pumps = [asyncio.create_task(pump(source)) for source in sources]
    try:
        left = len(pumps)
        while left:
            try:
                async with asyncio.timeout(QUIET_S):
                    piece = await queue.get()
            except TimeoutError:
                yield "", None
                continue
            if piece is None:
                left -= 1
            else:
                yield piece
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pieces(
    head: Head, objects: Objects, job: Job, source: StreamSource, offset: int, follow: bool
) -> AsyncIterator[tuple[int, bytes]]:
    """One stream from `offset` on: live while its step runs, then what was kept of it."""
    with head.following(job.id) as changed:
        while True:
            ended = _end_of(head, job, source)
            if ended is not None:
                digest = ended.stdout if source.stream == "stdout" else ended.stderr
                start = ended.stdout_from if source.stream == "stdout" else ended.stderr_from
                for piece in _kept(objects, digest, start, offset):
                    yield piece
                return
            task = _now(head, job).tasks.get(source.index)
            if task is None or task.attempt != source.attempt or task.state not in LEASED:
                return
            step = step_name(job, task, source.rank)
            async for chunk in head.tails.follow(task.nodes[source.rank], step, source.stream, offset, follow):
                if chunk.data:
                    yield chunk.offset, chunk.data
                    offset = chunk.offset + len(chunk.data)
            if not follow:
                return
            await _wait(changed, LOOK_AGAIN_S)


def _end_of(head: Head, job: Job, source: StreamSource) -> Ended | None:
    """How the step of this source ended: from the task, or from the log when the attempt is an older one."""
    task = _now(head, job).tasks.get(source.index)
    if task is not None and task.attempt == source.attempt:
        return task.ends[source.rank] if source.rank < len(task.ends) else None
    for _, event in about(head.core, job.id):
        if isinstance(event, StepEnded) and (event.index, event.attempt, event.rank) == (
            source.index,
            source.attempt,
            source.rank,
        ):
            return event.ended
    return None


def _kept(objects: Objects, digest: Digest | None, start: int, offset: int) -> Iterator[tuple[int, bytes]]:
    """What is stored of a stream, of which the first byte is the stream's byte `start`, from `offset` on."""
    if digest is None:
        return
    with contextlib.closing(objects.open(digest)) as stored:
        position = start
        while data := stored.read(LOG_CHUNK_BYTES):
            skipped = max(0, offset - position)
            if skipped < len(data):
                yield position + skipped, data[skipped:]
            position += len(data)
