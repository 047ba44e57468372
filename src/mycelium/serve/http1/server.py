"""The gateway's server: one task a connection, one request after the other, and an end that lets streams end first.

It speaks the least HTTP/1.1 that clients need. What comes is bounded in size, and in how long it may take to come.
Never: knows what is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Awaitable, Callable

from mycelium.base.limits import GATEWAY_CONNECTIONS_MAX
from mycelium.serve.http1.errors import ApiError, unavailable
from mycelium.serve.http1.exchange import Exchange, Left
from mycelium.serve.http1.heads import MessageHead, parse
from mycelium.serve.http1.wire import ConnectionEnded, Wire

HEAD_BYTES_MAX = 64 * 1024
WAITING_CONNECTIONS = 1024
IDLE_S = 75.0  # a connection on which nothing comes is closed
LOOK_S = 5.0
LINGER_S, LINGER_BYTES_MAX = (
    5.0,
    64 << 20,
)  # a body that was refused is read on for so long, else its sender sees no answer
App = Callable[[Exchange], Awaitable[None]]
NO_HEAD = MessageHead("GET", "", "", {"content-length": "1"}, 1, False, True)  # of a request that could not be read


class Listening:
    def __init__(self, app: App) -> None:
        self._app = app
        self._server: asyncio.Server | None = None
        self.connections: dict[Connection, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._ending = False

    async def start(self, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Wire(self._met), sock=listener, backlog=WAITING_CONNECTIONS, ssl=tls
        )
        self._looking = asyncio.create_task(self._look())

    async def stop(self, drain_s: float) -> None:
        """No new requests; those under way have so long to end."""
        self._ending = True
        if self._server is not None:
            self._server.close()
        if self._looking is not None:
            self._looking.cancel()
        for connection in self.connections:
            connection.last = True
            if connection.exchange is None:
                connection.wire.cut()
        if self.connections:
            await asyncio.wait(self.connections.values(), timeout=drain_s)
        for connection in self.connections:
            connection.wire.cut()

    def _met(self, wire: Wire) -> None:
        connection = Connection(wire, self._app)
        connection.last = self._ending
        connection.full = len(self.connections) >= GATEWAY_CONNECTIONS_MAX
        task = self.connections[connection] = asyncio.create_task(connection.serve())
        wire.lost = lambda: connection.left(task)
        task.add_done_callback(lambda _: self.connections.pop(connection, None))

    async def _look(self) -> None:
        """One timer for all connections, because one for each request would cost more than the rest of its head."""
        while True:
            await asyncio.sleep(LOOK_S)
            before_s = time.monotonic() - IDLE_S
            for connection in list(self.connections):
                if connection.silent_since(before_s):
                    connection.wire.cut()


class Connection:
    def __init__(self, wire: Wire, app: App) -> None:
        self.wire = wire
        self.exchange: Exchange | None = None  # that is being worked on
        self.last = False  # no request after this one
        self.full = False
        self._app = app
        self._idle_s = time.monotonic()

    async def serve(self) -> None:
        """Until the client or the gateway has had enough."""
        try:
            while await self._one():
                pass
        except (ConnectionEnded, OSError, Left):
            pass
        except asyncio.CancelledError:
            if not self.wire.ended:
                raise
        finally:
            self.wire.close()

    async def _one(self) -> bool:
        """One request. False when it was the last."""
        self._idle_s = time.monotonic()
        raw = await self._head()
        exchange = self.exchange = Exchange(self.wire, NO_HEAD)
        try:
            try:
                if raw is None:
                    raise ApiError(431, f"the head of the request has more than {HEAD_BYTES_MAX} bytes")
                exchange = self.exchange = Exchange(self.wire, parse(raw))
                if self.full:
                    raise unavailable(f"{GATEWAY_CONNECTIONS_MAX} connections are open here already")
            except ApiError as error:
                await exchange.fail(error)
            else:
                await self._app(exchange)
            if exchange.unread:
                await self._linger()
            return exchange.again and not self.last
        finally:
            self.exchange = None

    async def _head(self) -> bytes | None:
        """None when it is too long."""
        try:
            return await self.wire.until(b"\r\n\r\n", HEAD_BYTES_MAX)
        except ConnectionEnded:
            if self.wire.ended:
                raise
            return None

    async def _linger(self) -> None:
        """A connection that is closed on bytes that nobody has read takes its answer with it."""
        self.wire.end()
        seen = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while seen < LINGER_BYTES_MAX:
                    seen += len(await self.wire.some())

    def left(self, task: asyncio.Task[None]) -> None:
        """The client is gone."""
        if self.exchange is not None and self.exchange.ends_with_client:
            task.cancel()

    def silent_since(self, before_s: float) -> bool:
        if self.exchange is None:
            return self._idle_s < before_s
        return self.exchange.waits and self.exchange.heard_s < before_s
