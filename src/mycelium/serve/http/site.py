"""The doors to the site as a whole: health, status, events, audit, down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from mycelium.base.ids import JobId, parse_job
from mycelium.base.limits import GRACE_MS
from mycelium.base.version import __version__
from mycelium.head import views
from mycelium.head.history import event_view, verdict_view
from mycelium.head.loop import Head
from mycelium.serve.http.auth import TheSubject
from mycelium.serve.http.ground import TheGround, TheHead
from mycelium.serve.http.record import TheKeeper
from mycelium.serve.http.schema import flat
from mycelium.serve.http.wire import ERRORS, answer, fields, read_document, stream_events

router = APIRouter(tags=["site"], responses=ERRORS)

PAGE_EVENTS = 500
QUIET_S = 10.0


@router.get("/health", summary="Whether the head answers")
async def health() -> Response:
    """Needs no token and tells nothing but the version."""
    return answer({"ok": True, "version": __version__})


@router.get("/status", summary="The site at a glance")
async def status(ground: TheGround, head: TheHead, subject: TheSubject) -> Response:
    return answer({**ground.about, **views.status_view(head.core, head.clock.now_ns()), "account": subject.name})


@router.get("/events", summary="Everything that happens, as server-sent events")
async def events(
    head: TheHead,
    subject: TheSubject,
    after: Annotated[int | None, Query(ge=0, le=1 << 60)] = None,
    job: Annotated[str, Query(max_length=64)] = "",
    follow: bool = True,
) -> Response:
    """The events after number `after` (by default those from now on), then each new one as it is committed."""
    head.core.look("every event", subject)
    start = head.core.log.last_seq if after is None else after
    if start < head.core.log.pruned.seq:
        head.core.log.mark(start)  # says that it was pruned, before the answer begins
    return stream_events(_events(head, start, parse_job(job) if job else None, follow))


async def _events(head: Head, after: int, job: JobId | None, follow: bool) -> AsyncIterator[tuple[str, Any]]:
    with head.following(job) as changed:
        while True:
            page = list(head.core.log.read(after, PAGE_EVENTS))
            for entry in page:
                event = head.core.codec.decode(entry.kind, entry.data)
                if job is None or job in head.core.codec.about(event):
                    yield "event", event_view(head.core, entry, event)
                after = entry.seq
            if page:
                continue
            if not follow:
                return
            try:
                async with asyncio.timeout(QUIET_S):
                    await changed.wait()
            except TimeoutError:
                yield "", None
            changed.clear()


@router.get("/audit", summary="Walk the hash chain of the log")
async def audit(head: TheHead, keeper: TheKeeper, subject: TheSubject) -> Response:
    """Reads every event again, on a connection of its own, and checks that nothing was changed, added or taken away."""
    head.core.look("whether the log is as it was written", subject)
    return answer(verdict_view(await asyncio.to_thread(keeper.whole.verify)))


@router.post(
    "/down",
    summary="Stop the site",
    openapi_extra={"requestBody": flat([], grace_ms={"type": "integer", "minimum": 0, "maximum": 600_000})},
)
async def down(request: Request, ground: TheGround, head: TheHead, subject: TheSubject) -> Response:
    """Running steps are stopped with the grace period and queued again; they go on when the site is up again."""
    head.core.look("stop the site", subject)
    asked = fields(await read_document(request), grace_ms=int)["grace_ms"]
    grace_ms = GRACE_MS if asked is None else min(max(0, asked), 600_000)
    running = sum(1 for _ in head.core.house.busy(head.core.view))
    ground.down(subject.name, grace_ms)
    return answer({"stopping": True, "nodes_with_work": running, "grace_ms": grace_ms}, 202)
