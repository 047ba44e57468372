"""What bench.inference measures with: a fast pretended model, and a client that keeps many connections busy.

Both speak the least HTTP that works, so that what is measured is what stands between them.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import multiprocessing.connection
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "fake",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello " * 20}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 20, "total_tokens": 40},
    }
).encode()
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


class Fake(asyncio.Protocol):
    """A model that answers every request with the same, `delay_s` after it came."""

    delay_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            if self.delay_s:
                asyncio.get_running_loop().call_later(self.delay_s, self._answer)
            else:
                self._answer()

    def _answer(self) -> None:
        self._transport.write(HEAD % len(ANSWER) + ANSWER)


def serve_fake(delay_s: float, told: multiprocessing.connection.Connection) -> None:
    """Until killed; the port is sent through `told`."""

    async def run() -> None:
        Fake.delay_s = delay_s
        server = await asyncio.get_running_loop().create_server(Fake, "127.0.0.1", 0, backlog=512)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


class _Half(asyncio.Protocol):
    """One side of a connection that is only copied: what comes here goes out there."""

    def __init__(self, there: _Half | None = None, port: int = 0) -> None:
        self._there = there
        self._port = port
        self._early = b""
        self.transport: asyncio.Transport | None = None
        self._opening: asyncio.Task[object] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self._there is None:
            other = self._there = _Half(self)
            loop = asyncio.get_running_loop()
            self._opening = loop.create_task(loop.create_connection(lambda: other, "127.0.0.1", self._port))
        else:
            self._there.catch_up()

    def catch_up(self) -> None:
        self.data_received(b"")

    def data_received(self, data: bytes) -> None:
        assert self._there is not None
        if self._there.transport is None:
            self._early += data
        else:
            self._there.transport.write(self._early + data)
            self._early = b""

    def connection_lost(self, exc: Exception | None) -> None:
        if self._there is not None and self._there.transport is not None:
            self._there.transport.close()


def serve_copies(port: int, told: multiprocessing.connection.Connection) -> None:
    """Until killed: every connection becomes one to `port`. What any process in between costs at least."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Half(port=port), "127.0.0.1", 0, backlog=512)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


class _Served:
    """A server in a process of its own. Used as a context."""

    def __init__(self, serve: Callable[..., None], given: float) -> None:
        here, there = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=serve, args=(given, there))
        self._process.start()
        self.port: int = here.recv()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()


class Model(_Served):
    """A pretended model."""

    def __init__(self, delay_s: float) -> None:
        super().__init__(serve_fake, delay_s)


class Copier(_Served):
    """Stands before a port and copies bytes."""

    def __init__(self, port: int) -> None:
        super().__init__(serve_copies, port)


@dataclass(frozen=True)
class Load:
    """What a client saw: latencies in ms, sorted, and requests in all per second."""

    latencies_ms: list[float]
    per_s: float

    def at(self, share: float) -> float:
        return self.latencies_ms[min(len(self.latencies_ms) - 1, int(share * len(self.latencies_ms)))]


def pooled(loads: list[Load]) -> Load:
    """Several rounds as one."""
    latencies = sorted(one for load in loads for one in load.latencies_ms)
    return Load(latencies, statistics.fmean(load.per_s for load in loads))


def request(path: str, key: str, model: str) -> bytes:
    asked = {
        "model": model,
        "messages": [{"role": "user", "content": "Say hello to the world. " * 4}],
        "max_tokens": 20,
    }
    body = json.dumps(asked).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body


class _Caller(asyncio.Protocol):
    """One connection that asks again as soon as it was answered, until it is told to stop."""

    def __init__(self, wire: bytes, latencies_ms: list[float], until: float) -> None:
        self._wire, self._latencies, self._until = wire, latencies_ms, until
        self._buffer = b""
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(self._wire)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        if not head.startswith(b"http/1.1 200"):
            self._end(RuntimeError(self._buffer[:300].decode(errors="replace")))
            return
        length = int(head[head.find(b"content-length:") + 15 :].split(b"\r\n", 1)[0])
        if len(self._buffer) < end + 4 + length:
            return
        self._buffer = b""
        now = time.perf_counter()
        self._latencies.append((now - self._asked) * 1000)
        if now < self._until:
            self._ask()
        else:
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(RuntimeError(f"the connection was lost: {exc}"))

    def _end(self, error: Exception | None) -> None:
        if not self.over.done():
            self._transport.close()
            self.over.set_exception(error) if error else self.over.set_result(None)


async def drive(port: int, wire: bytes, connections: int, seconds: float, spread_s: float = 0.0) -> Load:
    """Keep so many connections busy for so long; they begin one after another, over `spread_s`."""
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    begun = time.perf_counter()
    callers: list[_Caller] = []
    for _ in range(connections):
        await asyncio.sleep(spread_s / connections)
        made = await loop.create_connection(lambda: _Caller(wire, latencies, begun + seconds), "127.0.0.1", port)
        callers.append(made[1])
    await asyncio.gather(*(caller.over for caller in callers))
    return Load(sorted(latencies), len(latencies) / (time.perf_counter() - begun))
