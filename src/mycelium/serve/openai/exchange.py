"""One request and its answer over ASGI: bounded bodies, JSON, streams, and noticing that the client has left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

import msgspec

from mycelium.serve.openai.errors import ApiError

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store", "x-accel-buffering": "no"}


class Left(Exception):
    """The client is gone: nobody reads the answer."""


class Exchange:
    def __init__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self._scope = scope
        self._receive = receive
        self._send = send
        self.began = False  # the head of the answer is out
        self.read_whole = False

    def header(self, name: str) -> str:
        wanted = name.encode()
        return next((value.decode("latin-1") for known, value in self._scope["headers"] if known == wanted), "")

    def query(self) -> dict[str, str]:
        found = parse_qs(self._scope["query_string"].decode("latin-1"))
        return {name: values[-1] for name, values in found.items()}

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Errors: `Left`."""
        while not self.read_whole:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Left
            self.read_whole = not message.get("more_body")
            yield message.get("body", b"")

    async def read(self, bytes_max: int) -> bytes:
        """The whole body. Errors: `ApiError` 413 when there is more than `bytes_max`, `Left`."""
        declared = self.header("content-length")
        if declared.isdigit() and int(declared) > bytes_max:
            raise _too_large(bytes_max)
        body = bytearray()
        async for piece in self.pieces():
            body += piece
            if len(body) > bytes_max:
                raise _too_large(bytes_max)
        return bytes(body)

    async def read_json(self, bytes_max: int) -> Any:
        body = await self.read(bytes_max)
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ApiError(400, f"We could not parse the JSON body of your request: {error}") from None

    async def wait_left(self) -> None:
        """Returns when the client has gone away."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        self.began = True
        pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})

    async def write(self, data: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def answer(self, document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        await self.answer_bytes(msgspec.json.encode(document), status, headers)

    async def answer_bytes(self, body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        await self.begin(status, {**JSON, "content-length": str(len(body)), **(headers or {})})
        await self.write(body, more=False)

    async def fail(self, error: ApiError) -> None:
        """The error as the answer; in the middle of a stream as its last event."""
        if self.began:
            await self.write(b"data: " + error.body() + b"\n\n", more=False)
        else:
            await self.answer(error.document(), error.status, error.headers)


async def or_left(exchange: Exchange, work: asyncio.Task[Any]) -> Any:
    """What the work gives, unless the client leaves first: then the work is cancelled. Errors: `Left`."""
    leaving = asyncio.create_task(exchange.wait_left())
    try:
        await asyncio.wait([work, leaving], return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        raise Left
    finally:
        leaving.cancel()
        if not work.done():
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


def _too_large(bytes_max: int) -> ApiError:
    return ApiError(413, f"the body has more than {bytes_max} bytes", code="request_too_large")
