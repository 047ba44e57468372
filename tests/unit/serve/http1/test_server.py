"""The gateway's server, asked as clients and their enemies would."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mycelium.serve.http1.exchange import EVENTS, Exchange
from mycelium.serve.http1.server import Listening

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HOST = b"host: h\r\n"


async def echo(exchange: Exchange) -> None:
    """Says back what it is sent, as a stream for /stream."""
    body = await exchange.read(100_000)
    if exchange.path == "/stream":
        exchange.begin(200, EVENTS)
        await exchange.write(body)
        await exchange.write(b"", more=False)
    else:
        await exchange.answer_bytes(body)


def meet(talk: Talk, path: Path, app: Callable[[Exchange], Awaitable[None]] = echo) -> None:
    async def run() -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path / "s"))
        listening = Listening(app)
        await listening.start(listener)
        reader, writer = await asyncio.open_unix_connection(str(path / "s"))
        try:
            async with asyncio.timeout(20):
                await talk(reader, writer)
        finally:
            writer.close()
            await listening.stop(5)

    asyncio.run(run())


def said(wire: bytes, path: Path) -> bytes:
    """All that is answered to these bytes, until the server closes."""
    found = bytearray()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(wire)
        found.extend(await reader.read())

    meet(talk, path)
    return bytes(found)


def test_requests_on_one_connection_are_answered_in_order(tmp_path: Path):
    one = b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 3\r\n\r\none"
    two = b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 3\r\nconnection: close\r\n\r\ntwo"
    answers = said(one + two, tmp_path).split(b"HTTP/1.1 200 OK\r\n")
    assert [answer[-3:] for answer in answers[1:]] == [b"one", b"two"]


def test_a_body_in_chunks_is_read_whole(tmp_path: Path):
    wire = b"POST / HTTP/1.1\r\n" + HOST + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    assert said(wire + b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n", tmp_path).endswith(b"\r\n\r\nhello")


def test_a_stream_goes_out_in_chunks_and_to_an_old_client_as_it_is(tmp_path: Path):
    new = b"POST /stream HTTP/1.1\r\n" + HOST + b"connection: close\r\ncontent-length: 2\r\n\r\nhi"
    assert said(new, tmp_path).endswith(b"2\r\nhi\r\n0\r\n\r\n")
    (tmp_path / "s").unlink()
    old = b"POST /stream HTTP/1.0\r\ncontent-length: 2\r\n\r\nhi"
    assert said(old, tmp_path).endswith(b"connection: close\r\n\r\nhi")


def test_a_client_that_asks_whether_to_go_on_is_told_so(tmp_path: Path):
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"POST / HTTP/1.1\r\n" + HOST + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hi")
        assert (await reader.readuntil(b"\r\n\r\nhi")).startswith(b"HTTP/1.1 200")

    meet(talk, tmp_path)


def test_a_body_that_is_too_large_is_refused_although_it_is_still_being_sent(tmp_path: Path):
    wire = b"POST / HTTP/1.1\r\n" + HOST + b"connection: close\r\ncontent-length: 3000000\r\n\r\n" + b"x" * 3_000_000

    async def app(exchange: Exchange) -> None:
        await exchange.answer({"error": "too large"}, 413)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(wire)
        await writer.drain()
        assert (await reader.read()).startswith(b"HTTP/1.1 413 ")

    meet(talk, tmp_path, app)


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\na: b\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n" + b"a: " + b"x" * 100_000, b"431"),
    ],
)
def test_what_cannot_be_read_is_refused_and_the_connection_closed(wire: bytes, status: bytes, tmp_path: Path):
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(wire)
        assert (await reader.read()).startswith(b"HTTP/1.1 " + status)

    meet(talk, tmp_path)


def test_bytes_after_a_refused_head_are_no_request(tmp_path: Path):
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET / HTTP/1.1\r\nx y\r\n\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (await reader.read()).count(b"HTTP/1.1 ") == 1

    meet(talk, tmp_path)


@pytest.mark.parametrize("cancels", [True, False])
def test_a_client_that_leaves_ends_only_work_that_is_for_it_alone(cancels: bool, tmp_path: Path):
    begun, left, over = asyncio.Event(), asyncio.Event(), asyncio.Event()
    ended: list[str] = []

    async def app(exchange: Exchange) -> None:
        exchange.ends_with_client = cancels
        begun.set()
        try:
            await left.wait()
            ended.append("done")
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        finally:
            over.set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        await begun.wait()
        writer.close()
        await writer.wait_closed()
        if not cancels:
            left.set()
        await over.wait()

    meet(talk, tmp_path, app)
    assert ended == ["cancelled" if cancels else "done"]


def test_a_stream_is_let_end_when_the_gateway_stops(tmp_path: Path):
    begun = asyncio.Event()

    async def app(exchange: Exchange) -> None:
        exchange.begin(200, EVENTS)
        await exchange.write(b"first")
        begun.set()
        await asyncio.sleep(0)
        await exchange.write(b"last", more=False)

    async def run() -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "s"))
        listening = Listening(app)
        await listening.start(listener)
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        await begun.wait()
        await listening.stop(20)
        assert (await reader.read()).endswith(b"4\r\nlast\r\n0\r\n\r\n")
        writer.close()

    asyncio.run(run())


def test_a_client_that_reads_nothing_is_waited_for_only_so_long(tmp_path: Path):
    asked: list[Exchange] = []
    stalled = asyncio.Event()

    async def app(exchange: Exchange) -> None:
        asked.append(exchange)
        exchange.begin(200, EVENTS)
        while not exchange.waits:
            asyncio.get_running_loop().call_soon(lambda: stalled.set() if exchange.waits else None)
            await exchange.write(b"x" * 100_000)

    async def run() -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "s"))
        listening = Listening(app)
        await listening.start(listener)
        _, writer = await asyncio.open_unix_connection(str(tmp_path / "s"), limit=1024)
        writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        await stalled.wait()
        connection = next(iter(listening.connections))
        assert not connection.silent_since(asked[0].heard_s)
        assert connection.silent_since(asked[0].heard_s + 1)
        writer.close()
        await listening.stop(5)

    asyncio.run(run())
