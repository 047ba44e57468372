"""The doors to objects: ask what is missing, send it, fetch it. An object's name is its right of access."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from mycelium.base.errors import Missing, Refused
from mycelium.base.ids import parse_digest
from mycelium.base.limits import TREE_ENTRIES_MAX
from mycelium.base.units import MIB
from mycelium.serve.http.auth import TheAccount
from mycelium.serve.http.schema import flat
from mycelium.serve.http.wire import ERRORS, answer, fields, read_document
from mycelium.store import pack
from mycelium.store.objects import CHUNK_BYTES, Objects

router = APIRouter(tags=["objects"], responses=ERRORS)

PIECE_BYTES = 1 * MIB
DIGEST: dict[str, Any] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
OCTETS: dict[str, Any] = {
    "required": True,
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}


def _objects(request: Request) -> Objects:
    return request.app.state.objects


@router.post(
    "/objects/missing",
    summary="Which of these objects the site does not have",
    openapi_extra={"requestBody": flat(["digests"], digests={"type": "array", "items": DIGEST})},
)
async def missing(request: Request, account: TheAccount) -> Response:
    asked = fields(await read_document(request), digests=list)["digests"] or []
    if len(asked) > TREE_ENTRIES_MAX:
        raise Refused(f"asks for {len(asked)} objects; at most {TREE_ENTRIES_MAX} are allowed")
    digests = [parse_digest(name if isinstance(name, str) else "") for name in asked]
    return answer({"missing": await asyncio.to_thread(_objects(request).missing, digests)})


@router.post("/objects", summary="Send many objects in one body", openapi_extra={"requestBody": OCTETS})
async def put_many(request: Request, account: TheAccount) -> Response:
    """The body is a pack (docs/reference.md): objects one after another, each checked against its name."""
    with _objects(request).batch() as batch, pack.Decoder(batch) as decoder:
        async for piece in _pieces(request):
            await asyncio.to_thread(decoder.write, piece)
        stored = decoder.finish()
    return answer({"stored": len(stored)}, 201)


@router.put("/objects/{digest}", summary="Send one object", openapi_extra={"requestBody": OCTETS})
async def put_one(digest: str, request: Request, account: TheAccount) -> Response:
    with _objects(request).begin(parse_digest(digest)) as writing:
        async for piece in _pieces(request):
            await asyncio.to_thread(writing.write, piece)
        await asyncio.to_thread(writing.commit)
    return answer({"stored": 1}, 201)


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces of about `PIECE_BYTES`: a thread for each packet would cost more than the write."""
    waiting = bytearray()
    async for packet in request.stream():
        waiting += packet
        if len(waiting) >= PIECE_BYTES:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting)


@router.get("/objects/{digest}", summary="Fetch one object")
async def get_one(digest: str, request: Request, account: TheAccount) -> Response:
    name = parse_digest(digest)
    objects = _objects(request)
    if not objects.has(name):
        raise Missing(f"object {name} is not here")
    return StreamingResponse(
        _read(objects, name),
        media_type="application/octet-stream",
        headers={"content-length": str(objects.size(name))},
    )


async def _read(objects: Objects, digest: Any) -> AsyncIterator[bytes]:
    with contextlib.closing(objects.open(digest)) as stored:
        while data := await asyncio.to_thread(stored.read, CHUNK_BYTES):
            yield data
