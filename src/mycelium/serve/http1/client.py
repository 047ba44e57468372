"""A small HTTP/1.1 client for asyncio: to replicas over Unix sockets and passages, to head and upstreams over TCP.

Connections are kept and used again. What comes is bounded, and handed on in the pieces in which it comes.
Never: follows a redirect, or repeats a request of which a byte may have been worked on.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from mycelium.engine.passage import Gate, pass_through
from mycelium.engine.unix import open_unix
from mycelium.serve.http1.wire import PIECE_BYTES, ConnectionEnded, Wire, chunks

HEAD_BYTES_MAX = 64 * 1024
KEPT_PER_TARGET = 64
CONNECT_S = 5.0


class Broken(Exception):
    """The other side did not answer, or stopped in the middle, or spoke no HTTP."""


class Target(NamedTuple):
    """Where to: the path of a Unix socket, a gate to one on another machine, or host and port.

    `prefix` comes before every path.
    """

    socket: str = ""
    host: str = "replica"
    port: int = 0
    tls: bool = False
    prefix: str = ""
    gate: Gate | None = None


def target_of(url: str) -> Target:
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    return Target("", parts.hostname or "", parts.port or (443 if tls else 80), tls, parts.path.rstrip("/"))


class Reply:
    """An answer whose head has come. `pieces` or `read` takes its body; `close` leaves it and the connection."""

    def __init__(self, client: HttpClient, target: Target, wire: Wire, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        self.headers = headers
        self._client = client
        self._target = target
        self._wire = wire
        self._whole = False

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Errors: `Broken` when it ends before its end."""
        wire = self._wire
        try:
            if self.status in (204, 304):
                pass
            elif "chunked" in self.headers.get("transfer-encoding", "").lower():
                async for piece in chunks(wire):
                    yield piece
            elif "content-length" in self.headers:
                left = int(self.headers["content-length"])
                while left > 0:
                    piece = await wire.some(min(left, PIECE_BYTES))
                    left -= len(piece)
                    yield piece
            else:
                with contextlib.suppress(ConnectionEnded):
                    while True:
                        yield await wire.some()
                return  # the connection is its end, and cannot be used again
        except (OSError, ValueError, ConnectionEnded) as error:
            raise Broken(f"the answer broke off: {type(error).__name__}") from None
        self._whole = True

    async def read(self, bytes_max: int) -> bytes:
        """The whole body. Errors: `Broken`, also when there is more than `bytes_max`."""
        length = self.headers.get("content-length", "")
        if length.isdecimal() and "transfer-encoding" not in self.headers and int(length) <= bytes_max:
            try:
                whole = await self._wire.exactly(int(length))
            except (OSError, ConnectionEnded):
                raise Broken("the answer ended early") from None
            self._whole = True
            return whole
        body = bytearray()
        async for piece in self.pieces():
            body += piece
            if len(body) > bytes_max:
                raise Broken(f"the answer has more than {bytes_max} bytes")
        return bytes(body)

    def close(self) -> None:
        """Keep the connection for the next request if this one was read to its end, else cut it."""
        if self._whole and self.headers.get("connection", "").lower() != "close":
            self._client.keep(self._target, self._wire)
        else:
            self._wire.cut()


class HttpClient:
    """`ca`: the file of a certificate that is trusted besides those that the system trusts."""

    def __init__(self, ca: Path | None = None) -> None:
        self._kept: dict[Target, list[Wire]] = {}
        self._tls = ssl.create_default_context()
        if ca is not None:
            self._tls.load_verify_locations(ca)

    async def send(
        self, target: Target, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """The head of the answer. Errors: `Broken`."""
        lines = [f"{method} {target.prefix}{path} HTTP/1.1", f"host: {target.host}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body or method != "GET":
            lines.append(f"content-length: {len(body)}")
        asked = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
        while (wire := self._take(target)) is not None:
            # A kept connection may have been closed meanwhile: then nothing was worked on, and another one is tried.
            with contextlib.suppress(Broken, OSError):
                return await self._exchange(target, wire, asked)
            wire.cut()
        wire = await self._connect(target)
        try:
            return await self._exchange(target, wire, asked)
        except OSError as error:
            wire.cut()
            raise Broken(f"no answer: {error}") from None
        except BaseException:
            wire.cut()
            raise

    async def _exchange(self, target: Target, wire: Wire, asked: bytes) -> Reply:
        try:
            wire.write(asked)
            head = await wire.until(b"\r\n\r\n", HEAD_BYTES_MAX)
            while head.startswith(b"HTTP/1.1 1"):
                head = await wire.until(b"\r\n\r\n", HEAD_BYTES_MAX)  # 100 Continue and its like
            first, *rest = head[:-4].decode("latin-1").split("\r\n")
            status = int(first.split(" ", 2)[1])
        except (ConnectionEnded, ValueError, IndexError) as error:
            raise Broken(f"no answer: {type(error).__name__}") from None
        except asyncio.CancelledError:
            wire.cut()  # so that the other side stops working on it
            raise
        pairs = (line.partition(":") for line in rest)
        return Reply(self, target, wire, status, {name.strip().lower(): value.strip() for name, _, value in pairs})

    async def _connect(self, target: Target) -> Wire:
        try:
            async with asyncio.timeout(CONNECT_S):
                if target.gate is not None:
                    return Wire.of(await pass_through(target.gate, HEAD_BYTES_MAX))
                if target.socket:
                    return Wire.of(await open_unix(target.socket))
                tls = self._tls if target.tls else None
                return Wire.of(await asyncio.open_connection(target.host, target.port, ssl=tls, limit=HEAD_BYTES_MAX))
        except (OSError, TimeoutError) as error:
            raise Broken(f"no connection: {error}") from None

    def _take(self, target: Target) -> Wire | None:
        kept = self._kept.get(target)
        while kept:
            wire = kept.pop()
            if wire.open:
                return wire
            wire.cut()
        return None

    def keep(self, target: Target, wire: Wire) -> None:
        kept = self._kept.setdefault(target, [])
        if len(kept) >= KEPT_PER_TARGET:
            wire.cut()
        else:
            kept.append(wire)

    def forget(self, target: Target) -> None:
        """Nobody is there any more."""
        for wire in self._kept.pop(target, []):
            wire.cut()
