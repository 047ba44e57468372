"""`/v1/files`: what batches read and write. The bytes are objects of the site; the head knows whose they are."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

import msgspec

from mycelium.base.ids import Digest
from mycelium.base.limits import BATCH_FILE_BYTES_MAX
from mycelium.inference.commands import AddFile, RemoveFile
from mycelium.inference.model import StoredFile
from mycelium.serve.gateway.link import GatewayLink
from mycelium.serve.gateway.table import CallerRow
from mycelium.serve.http1 import multipart
from mycelium.serve.http1.errors import ApiError
from mycelium.serve.http1.exchange import Exchange
from mycelium.store.objects import CHUNK_BYTES, Objects

PIECE_BYTES = 1 << 20
LISTED, LISTED_MAX = 100, 1_000
Item = TypeVar("Item")


def file_view(file: StoredFile) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": file.created_ns // 1_000_000_000,
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
        "expires_at": None,
    }


class Files:
    def __init__(self, link: GatewayLink, objects: Objects) -> None:
        self._link = link
        self._objects = objects

    async def create(self, exchange: Exchange, row: CallerRow, name: str) -> None:
        taken = 0
        waiting = bytearray()
        with self._objects.begin() as writing:

            async def take(piece: bytes) -> None:
                nonlocal taken
                taken += len(piece)
                if taken > BATCH_FILE_BYTES_MAX:
                    raise ApiError(413, f"the file has more than {BATCH_FILE_BYTES_MAX} bytes", code="file_too_large")
                waiting.extend(piece)
                if len(waiting) >= PIECE_BYTES:
                    await asyncio.to_thread(writing.write, bytes(waiting))
                    waiting.clear()

            form = await multipart.read(exchange.header("content-type"), exchange.pieces(), take)
            _check_form(form)
            await asyncio.to_thread(writing.write, bytes(waiting))
            digest = await asyncio.to_thread(writing.commit)
        file = f"file-{os.urandom(12).hex()}"
        filename = "".join(c for c in form.filename if c.isprintable())[:256] or "file"
        added = AddFile(row.account, file, filename, form.fields["purpose"], taken, (digest,))
        await self._link.do(added)
        await exchange.answer(file_view(await self.find(row, file)))

    async def find(self, row: CallerRow, file: str) -> StoredFile:
        """Errors: `Missing`, also for what is another account's."""
        found = await self._link.get(f"/gateway/files?account={row.account}&file={_plain(file)}")
        return msgspec.convert(found, StoredFile)

    async def list(self, exchange: Exchange, row: CallerRow, name: str) -> None:
        found = msgspec.convert(await self._link.get(f"/gateway/files?account={row.account}"), list[StoredFile])
        query = exchange.query()
        found = [file for file in found if query.get("purpose", file.purpose) == file.purpose]
        if query.get("order") != "asc":
            found.reverse()
        await exchange.answer(page([file_view(file) for file in found], query))

    async def show(self, exchange: Exchange, row: CallerRow, name: str) -> None:
        await exchange.answer(file_view(await self.find(row, name)))

    async def delete(self, exchange: Exchange, row: CallerRow, name: str) -> None:
        await self._link.do(RemoveFile(row.account, name))
        await exchange.answer({"id": name, "object": "file", "deleted": True})

    async def content(self, exchange: Exchange, row: CallerRow, name: str) -> None:
        file = await self.find(row, name)
        headers = {"content-type": "application/octet-stream", "content-length": str(file.size_bytes)}
        exchange.begin(200, headers)
        async for piece in read_parts(self._objects, file.parts):
            await exchange.write(piece)
        await exchange.write(b"", more=False)


async def read_parts(objects: Objects, parts: Sequence[Digest]) -> AsyncIterator[bytes]:
    """The bytes of the parts, one after another."""
    for digest in parts:
        with contextlib.closing(await asyncio.to_thread(objects.open, digest)) as stored:
            while data := await asyncio.to_thread(stored.read, CHUNK_BYTES):
                yield data


def _check_form(form: multipart.Form) -> None:
    purpose = form.fields.get("purpose", "")
    if not form.has_file:
        raise ApiError(400, "missing required parameter: 'file'", code="missing_required_parameter", param="file")
    strange = sorted(set(form.fields) - {"purpose"})
    if strange:
        raise ApiError(400, f"{strange[0]!r} is not supported here", code="unsupported_parameter", param=strange[0])
    if purpose != "batch":
        raise ApiError(400, f"purpose {purpose[:32]!r} is not supported here: only 'batch' is", param="purpose")


def page(items: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
    """A page of a listing, after the item that `after` names."""
    limit = query.get("limit", str(LISTED))
    if not limit.isdigit() or not 1 <= int(limit) <= LISTED_MAX:
        raise ApiError(400, f"limit must be from 1 to {LISTED_MAX}", param="limit")
    after = query.get("after")
    if after:
        names = [item["id"] for item in items]
        if after not in names:
            raise ApiError(400, f"no such item: {after[:64]}", param="after")
        items = items[names.index(after) + 1 :]
    shown = items[: int(limit)]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(items) > len(shown),
    }


def _plain(name: str) -> str:
    """A name as it may stand in a query: what is not one of ours is none at all."""
    return name if name.isascii() and all(c.isalnum() or c in "-_." for c in name) and name else "none"
