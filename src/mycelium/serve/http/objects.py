"""The doors to objects: ask what is missing, send it, fetch it. An object's name is its right of access."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse

from mycelium.base.errors import Refused
from mycelium.base.ids import Digest, parse_digest
from mycelium.base.limits import TREE_ENTRIES_MAX
from mycelium.base.units import MIB
from mycelium.serve.http.auth import TheSubject
from mycelium.serve.http.ground import TheGround
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


def the_objects(ground: TheGround) -> Objects:
    return ground.objects


TheObjects = Annotated[Objects, Depends(the_objects)]


@router.post(
    "/objects/missing",
    summary="Which of these objects the site does not have",
    openapi_extra={"requestBody": flat(["digests"], digests={"type": "array", "items": DIGEST})},
)
async def missing(request: Request, objects: TheObjects, subject: TheSubject) -> Response:
    asked: list[Any] = fields(await read_document(request), digests=list)["digests"] or []
    if len(asked) > TREE_ENTRIES_MAX:
        raise Refused(f"asks for {len(asked)} objects; at most {TREE_ENTRIES_MAX} are allowed")
    digests = [parse_digest(name if isinstance(name, str) else "") for name in asked]
    return answer({"missing": await asyncio.to_thread(objects.missing, digests)})


@router.post(
    "/objects", status_code=201, summary="Send many objects in one body", openapi_extra={"requestBody": OCTETS}
)
async def put_many(request: Request, objects: TheObjects, subject: TheSubject) -> Response:
    """The body is a pack (docs/reference.md): objects one after another, each checked against its name."""
    stored = await asyncio.to_thread(pack.decode, _pieces(request), objects)
    return answer({"stored": len(stored)}, 201)


@router.put("/objects/{digest}", status_code=201, summary="Send one object", openapi_extra={"requestBody": OCTETS})
async def put_one(digest: str, request: Request, objects: TheObjects, subject: TheSubject) -> Response:
    await asyncio.to_thread(_put, objects, parse_digest(digest), _pieces(request))
    return answer({"stored": 1}, 201)


def _put(objects: Objects, digest: Digest, pieces: Iterator[bytes]) -> None:
    with objects.begin(digest) as writing:
        for piece in pieces:
            writing.write(piece)
        writing.commit()


def _pieces(request: Request) -> Iterator[bytes]:
    """The body for a thread that writes it to the disk, while the loop of the head goes on.

    In pieces of about `PIECE_BYTES`: a turn of the loop for each packet would cost more than the write.
    """
    loop = asyncio.get_running_loop()
    packets = request.stream()

    async def gather() -> bytes:
        gathered = bytearray()
        async for packet in packets:
            gathered += packet
            if len(gathered) >= PIECE_BYTES:
                break
        return bytes(gathered)

    def pieces() -> Iterator[bytes]:
        while piece := asyncio.run_coroutine_threadsafe(gather(), loop).result():
            yield piece

    return pieces()


@router.get("/objects/{digest}", summary="Fetch one object")
async def get_one(digest: str, request: Request, objects: TheObjects, subject: TheSubject) -> Response:
    name = parse_digest(digest)
    size_bytes = await asyncio.to_thread(objects.size, name)
    return StreamingResponse(
        _read(objects, name), media_type="application/octet-stream", headers={"content-length": str(size_bytes)}
    )


async def _read(objects: Objects, digest: Any) -> AsyncIterator[bytes]:
    with contextlib.closing(objects.open(digest)) as stored:
        while data := await asyncio.to_thread(stored.read, CHUNK_BYTES):
            yield data
