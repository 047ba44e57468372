"""One request and its answer: bounded bodies, JSON, streams, and noticing that the client has left."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

import msgspec

from mycelium.serve.http1.errors import ApiError
from mycelium.serve.http1.heads import MessageHead, bad
from mycelium.serve.http1.wire import ConnectionEnded, Wire, chunks

JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store", "x-accel-buffering": "no"}


class Left(Exception):
    """The client is gone: nobody reads the answer."""


class Exchange:
    def __init__(self, wire: Wire, head: MessageHead) -> None:
        self.method = head.method
        self.path = head.path
        self.began = False  # the head of the answer is fixed
        self.ends_with_client = False  # nobody but the client has a use for what is being done
        self.heard_s = time.monotonic()  # when the client last sent or took what was waited for
        self.waits = False  # for the client
        self._wire = wire
        self._head = head
        self._front = b""  # the head of the answer, which goes out with the first bytes of the body
        self._chunked = False
        self._over = False  # the answer is out
        self._read = head.length == 0
        self._keeps = head.keeps

    def header(self, name: str) -> str:
        return self._head.headers.get(name, "")

    def query(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(self._head.query).items()}

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Errors: `Left`, `ApiError` 400."""
        if self._read:
            return
        if self.header("expect").lower() == "100-continue":
            self._wire.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.waits = True
        try:
            async for piece in self._counted() if self._head.length > 0 else chunks(self._wire):
                self.heard_s = time.monotonic()
                yield piece
        except (ConnectionEnded, OSError):
            raise Left from None
        except ValueError:
            self._keeps = False
            raise bad("its body is malformed") from None
        finally:
            self.waits = False
        self._read = True

    async def _counted(self) -> AsyncIterator[bytes]:
        left = self._head.length
        while left > 0:
            piece = await self._wire.some(left)
            left -= len(piece)
            yield piece

    async def read(self, bytes_max: int) -> bytes:
        """The whole body. Errors: `ApiError` 413 when there is more than `bytes_max`, `Left`."""
        length = self._head.length
        if length > bytes_max:
            raise _too_large(bytes_max)
        if 0 <= length <= len(self._wire.held) and not self._read:  # most requests come in one piece
            self._read = True
            return self._wire.take(length)
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

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """The head of the answer. It goes out with what is written first."""
        self.began = True
        self._keeps = self._keeps and self._read
        lines = [_first_line(status), _dated.now()]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if "content-length" not in headers:
            self._chunked = self._head.chunks
            self._keeps = self._keeps and self._chunked
            if self._chunked:
                lines.append("transfer-encoding: chunked")
        if not self._keeps:
            lines.append("connection: close")
        self._front = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"

    async def write(self, data: bytes, *, more: bool = True) -> None:
        """Errors: `Left`."""
        if self._head.method == "HEAD":
            data = b""
        elif self._chunked:
            data = (b"%x\r\n%b\r\n" % (len(data), data) if data else b"") + (b"" if more else b"0\r\n\r\n")
        if self._wire.gone:
            raise Left
        if self._front or data:
            self._wire.write(self._front + data)
            self._front = b""
        self._over = not more
        if self._wire.full:
            self.heard_s, self.waits = time.monotonic(), True
            try:
                await self._wire.drain()
            finally:
                self.waits = False

    async def answer(self, document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        await self.answer_bytes(msgspec.json.encode(document), status, headers)

    async def answer_bytes(self, body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.begin(status, {**JSON, "content-length": str(len(body)), **(headers or {})})
        await self.write(body, more=False)

    async def fail(self, error: ApiError) -> None:
        """The error as the answer; in the middle of a stream as its last event. Errors: `Left`."""
        if not self.began:
            await self.answer(error.document(), error.status, error.headers)
        elif self._chunked:
            await self.write(b"data: " + error.body() + b"\n\n", more=False)
        # Else the client was told how long the answer is, and sees that it is not.

    @property
    def unread(self) -> bool:
        """Whether some of the body may still come."""
        return not self._read

    @property
    def again(self) -> bool:
        """Whether the next request can come on this connection."""
        return self._over and self._keeps


class _Dated:
    """The line that says what time it is, made once a second."""

    def __init__(self) -> None:
        self._second, self._line = 0, ""

    def now(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._second, self._line = second, f"date: {formatdate(second, usegmt=True)}"
        return self._line


_dated = _Dated()
_first_lines: dict[int, str] = {status.value: f"HTTP/1.1 {status.value} {status.phrase}" for status in HTTPStatus}


def _first_line(status: int) -> str:
    return _first_lines.get(status) or f"HTTP/1.1 {status} Error"


def _too_large(bytes_max: int) -> ApiError:
    return ApiError(413, f"the body has more than {bytes_max} bytes", code="request_too_large")
