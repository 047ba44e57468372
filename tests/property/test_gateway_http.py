"""The gateway's server under whatever bytes come, in whatever pieces."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from mycelium.serve.http1.exchange import Exchange
from mycelium.serve.http1.server import Connection
from mycelium.serve.http1.wire import Wire

BODIES = st.lists(st.tuples(st.binary(max_size=200), st.booleans()), max_size=5)


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = write_eof = close

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


async def echo(exchange: Exchange) -> None:
    await exchange.answer_bytes(await exchange.read(10_000))


async def answers(pieces: list[bytes]) -> bytes:
    """What is answered to these pieces, after which the client hangs up."""
    wire, transport = Wire(), Transport()
    wire.connection_made(cast("Any", transport))
    serving = asyncio.create_task(Connection(wire, echo).serve())
    for piece in pieces:
        wire.data_received(piece)
        await asyncio.sleep(0)
    while not serving.done() and wire.held:
        before = len(wire.held), len(transport.written)
        for _ in range(3):
            await asyncio.sleep(0)
        if (len(wire.held), len(transport.written)) == before:
            break
    wire.connection_lost(None)
    await serving
    return bytes(transport.written)


def request(body: bytes, chunked: bool) -> bytes:
    head = b"POST / HTTP/1.1\r\nhost: h\r\n"
    if not chunked:
        return head + b"content-length: %d\r\n\r\n" % len(body) + body
    parts = [body[at : at + 7] for at in range(0, len(body), 7)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return head + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


def cut(wire: bytes, at: list[int]) -> list[bytes]:
    ends = sorted({min(one, len(wire)) for one in at} | {0, len(wire)})
    return [wire[first:last] for first, last in itertools.pairwise(ends)]


@given(BODIES, st.lists(st.integers(0, 2_000), max_size=12))
def test_however_requests_are_cut_each_is_answered_once_and_in_order(
    bodies: list[tuple[bytes, bool]], at: list[int]
) -> None:
    said = asyncio.run(answers(cut(b"".join(request(*one) for one in bodies), at)))
    for body, _ in bodies:
        head, _, said = said.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"content-length: %d" % len(body) in head
        assert said.startswith(body)
        said = said[len(body) :]
    assert said == b""


@given(st.lists(st.binary(max_size=300), max_size=5), BODIES)
def test_no_bytes_bring_the_server_down(noise: list[bytes], bodies: list[tuple[bytes, bool]]) -> None:
    said = asyncio.run(answers([*(request(*one) for one in bodies), *noise]))
    assert said.count(b"HTTP/1.1 200 OK") >= len(bodies)
