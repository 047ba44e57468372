"""Carries a handshake (`base/handshake.py`) over a socket, or over the streams of asyncio.

Reads exactly what the handshake asks for, in bounded time however slowly it comes. Whatever ends it comes out as
`Denied`, `Refused` or `OSError`; the connection is then the caller's to close.
Never: takes memory for a stranger beyond the few bytes of the handshake.
"""

from __future__ import annotations

import asyncio
import socket
import time

from mycelium.base.handshake import Handshake, Session
from mycelium.base.limits import HANDSHAKE_S


def meet(sock: socket.socket, handshake: Handshake, within_s: float = HANDSHAKE_S) -> Session:
    """Errors: `Denied`, `Refused`, `OSError`."""
    until = time.monotonic() + within_s
    timeout = sock.gettimeout()
    try:
        step = next(handshake)
        while True:
            if isinstance(step, int):
                step = handshake.send(_read(sock, step, until))
            else:
                sock.settimeout(_left_s(until))
                sock.sendall(step)
                step = next(handshake)
    except StopIteration as done:
        return done.value
    finally:
        sock.settimeout(timeout)


async def meet_streams(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handshake: Handshake, within_s: float = HANDSHAKE_S
) -> Session:
    """Errors: `Denied`, `Refused`, `OSError`."""
    try:
        async with asyncio.timeout(within_s):
            step = next(handshake)
            while True:
                if isinstance(step, int):
                    step = handshake.send(await reader.readexactly(step))
                else:
                    writer.write(step)
                    step = next(handshake)
    except StopIteration as done:
        return done.value
    except asyncio.IncompleteReadError:
        raise ConnectionError("closed in the middle of the handshake") from None


def _read(sock: socket.socket, size_bytes: int, until: float) -> bytes:
    data = b""
    while len(data) < size_bytes:
        sock.settimeout(_left_s(until))
        piece = sock.recv(size_bytes - len(data))
        if not piece:
            raise ConnectionError("closed in the middle of the handshake")
        data += piece
    return data


def _left_s(until: float) -> float:
    left_s = until - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("the handshake took too long")
    return left_s
