"""The head's doors for gateways: the table, as it changes, and what they report. Not for people, and not documented."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse

from mycelium.base.errors import Refused, Unknown
from mycelium.base.ids import AccountId
from mycelium.base.subject import GATE
from mycelium.inference.commands import GatewayCommand
from mycelium.inference.model import Batch, StoredFile
from mycelium.inference.rules import find_batch, find_file
from mycelium.serve.gateway.table import Machines, mark, table_of
from mycelium.serve.http.ground import Ground, TheGround, TheHead
from mycelium.serve.http.wire import answer

QUIET_S = 5.0  # so that a gateway notices that the head is gone
GATHER_S = 0.02  # what changes together is told together
_commands = msgspec.json.Decoder(GatewayCommand)


def the_gateway(request: Request, ground: TheGround) -> None:
    """Errors: `Unknown` for whoever does not show the token that lies in the home."""
    shown = request.headers.get("authorization", "").removeprefix("Bearer ")
    if not hmac.compare_digest(shown.encode(), ground.gateway.token.encode()):
        raise Unknown("this door is for gateways")


router = APIRouter(prefix="/gateway", include_in_schema=False, dependencies=[Depends(the_gateway)])


@router.get("/table")
async def table(ground: TheGround) -> Response:
    """Lines of JSON: the whole table whenever it changed, and an empty line now and then."""
    return StreamingResponse(_tables(ground), media_type="application/x-ndjson")


def _machines(ground: Ground) -> Machines:
    opened, gateway = ground.opened, ground.gateway
    keys = gateway.upstream_keys.shown()
    if opened is None:
        return Machines(gateway.home, gateway.token, upstream_keys=keys)
    ca = str(opened.authority.files.ca) if opened.authority else ""
    return Machines(gateway.home, gateway.token, opened.passages, ca, keys)


async def _tables(ground: Ground) -> AsyncIterator[bytes]:
    head = ground.head
    known: object = None
    with head.following(None) as changed, ground.gateway.upstream_keys.following(changed):
        while True:
            changed.clear()
            machines = _machines(ground)
            now = mark(head.core.site, machines)
            if now != known:
                known = now
                yield msgspec.json.encode(table_of(head.core.site, machines)) + b"\n"
            try:
                async with asyncio.timeout(QUIET_S):
                    await changed.wait()
            except TimeoutError:
                yield b"\n"
            await asyncio.sleep(GATHER_S)


@router.post("/do")
async def do(request: Request, head: TheHead) -> Response:
    """One command, as `inference.commands` has them."""
    try:
        command = _commands.decode(await request.body())
    except msgspec.DecodeError as error:
        raise Refused(f"no command of a gateway: {error}") from None
    return answer({"answer": await head.ask(command, GATE)})


Text = Annotated[str, Query(max_length=128)]


@router.get("/files")
async def files(head: TheHead, account: Text, file: Text = "") -> Response:
    state = head.core.site.inference
    if file:
        return answer(find_file(state, AccountId(account), file))
    mine: list[StoredFile] = [known for known in state.files.values() if known.account == account]
    return answer(mine)


@router.get("/batches")
async def batches(head: TheHead, account: Text, batch: Text = "") -> Response:
    state = head.core.site.inference
    if batch:
        return answer(find_batch(state, AccountId(account), batch))
    mine: list[Batch] = [known for known in state.batches.values() if known.account == account]
    return answer(mine)
