"""The doors to the site's own record, its log: verify it, export it, prune it.

Never: drops an event; that is `head/retention.py`, which keeps one file for whatever it drops.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse

from mycelium.base.errors import Problem, Refused
from mycelium.base.units import DAY_S, S_NS
from mycelium.head.history import verdict_view
from mycelium.head.retention import LogKeeper
from mycelium.head.views import Document, plain, time_view
from mycelium.log.entry import START, Mark
from mycelium.log.retention import DAYS_MAX
from mycelium.log.segment import lines_of
from mycelium.log.whole import WholeLog
from mycelium.serve.http.auth import TheSubject
from mycelium.serve.http.ground import TheGround, TheHead
from mycelium.serve.http.schema import flat
from mycelium.serve.http.wire import ERRORS, answer, fields, read_document, stream_events

router = APIRouter(prefix="/log", tags=["site"], responses=ERRORS)
log = logging.getLogger("mycelium.serve")

TIME_NS_MAX = 1 << 62
CHUNK_BYTES = 1 << 16
Moment = Annotated[int | None, Query(ge=0, le=TIME_NS_MAX)]


def the_keeper(ground: TheGround) -> LogKeeper:
    return ground.log_keeper


TheKeeper = Annotated[LogKeeper, Depends(the_keeper)]


@router.get("/verify", summary="Walk the hash chain of the log, exported files included, as server-sent events")
async def verify(head: TheHead, keeper: TheKeeper, subject: TheSubject) -> Response:
    """`progress` of `{event, of}` now and then, at the end one `verdict`. `/audit` answers the verdict alone."""
    head.core.look("whether the log is as it was written", subject)
    return stream_events(_verifying(keeper.whole, head.core.log.last_seq))


async def _verifying(whole: WholeLog, last_seq: int) -> AsyncIterator[tuple[str, Any]]:
    loop = asyncio.get_running_loop()
    told: asyncio.Queue[int] = asyncio.Queue()

    def tell(seq: int) -> None:
        loop.call_soon_threadsafe(told.put_nowait, seq)

    walk = asyncio.ensure_future(asyncio.to_thread(whole.verify, tell))
    walk.add_done_callback(lambda _: told.put_nowait(0))
    while seq := await told.get():
        yield "progress", {"event": seq, "of": last_seq}
    try:
        yield "verdict", verdict_view(walk.result())
    except Problem as problem:
        yield "problem", problem.body()


@router.get("/export", summary="The events of a time, as lines of JSON that verify by themselves")
async def export(
    head: TheHead, keeper: TheKeeper, subject: TheSubject, since_ns: Moment = None, until_ns: Moment = None
) -> Response:
    """Events that were pruned come from the files that hold them. The first line says where the others belong."""
    head.core.look("export and prune the log", subject)
    whole = keeper.whole
    after = await asyncio.to_thread(whole.mark_before, since_ns) if since_ns else START
    if until_ns is None:
        last = head.core.log.mark(head.core.log.last_seq)
    else:
        last = await asyncio.to_thread(whole.mark_before, until_ns)
    if last.seq <= after.seq:
        raise Refused("no event is of that time", hint="`myc log verify` says how far the log goes")
    return StreamingResponse(_chunks(whole, after, last), media_type="application/x-ndjson")


def _chunks(whole: WholeLog, after: Mark, last: Mark) -> Iterator[bytes]:
    """Ends early where an event cannot be read: who reads them knows the last one and misses it."""
    waiting, size = list[bytes](), 0
    try:
        for line in lines_of(after, last, whole.entries(after, last)):
            waiting.append(line)
            size += len(line)
            if size >= CHUNK_BYTES:
                yield b"".join(waiting)
                waiting, size = [], 0
    except Problem as problem:
        log.warning("an export ended early: %s", problem)
    yield b"".join(waiting)


@router.post(
    "/prune",
    summary="Let files alone hold old events",
    openapi_extra={
        "requestBody": flat(
            [],
            before_ns={"type": "integer", "minimum": 0, "maximum": TIME_NS_MAX},
            keep_days={"type": "integer", "minimum": 0, "maximum": DAYS_MAX},
            dry_run={"type": "boolean"},
        )
    },
)
async def prune(request: Request, head: TheHead, keeper: TheKeeper, subject: TheSubject) -> Response:
    """One piece of what is older: it goes to a file, which is read back, and then out of the log. Ask again with the
    same `before_ns` until nothing is `left`. With `dry_run` nothing goes, and the answer says what would.

    Without a time it is that of the site's own `log_keep`.
    """
    head.core.look("export and prune the log", subject)
    asked = fields(await read_document(request), before_ns=int, keep_days=int, dry_run=bool)
    before_ns = _before_ns(asked, keeper, head.clock.now_ns())
    about: Document = {"before_ns": before_ns, "before": time_view(before_ns)}
    if asked["dry_run"]:
        plan = await keeper.plan(before_ns)
        return answer({**about, **plain(plan), "events": plan.events})
    return answer({**about, **plain(await keeper.prune(before_ns))})


def _before_ns(asked: dict[str, Any], keeper: LogKeeper, now_ns: int) -> int:
    before_ns, keep_days = asked["before_ns"], asked["keep_days"]
    if before_ns is not None and keep_days is not None:
        raise Refused("before_ns and keep_days exclude each other")
    if before_ns is not None:
        if not 0 <= before_ns <= TIME_NS_MAX:
            raise Refused(f"before_ns is {before_ns}; it must be 0 to {TIME_NS_MAX}")
        return before_ns
    if keep_days is not None:
        if not 0 <= keep_days <= DAYS_MAX:
            raise Refused(f"keep_days is {keep_days}; it must be 0 to {DAYS_MAX}")
        return max(0, now_ns - keep_days * DAY_S * S_NS)
    if keeper.keep.age_ns is None:
        raise Refused("this site keeps its events for ever", hint="say which should go: --before DATE or --keep DAYS")
    return max(0, now_ns - keeper.keep.age_ns)
