"""Sending a step's log while it grows.

Files are polled, because a stat costs a microsecond and inotify watches are few. Memory is bounded by one chunk for
each tail: a slow head makes the tail wait, and the log on disk goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from mycelium.agent.shim import pump
from mycelium.agent.steps.held import HeldStep, Phase
from mycelium.base.limits import LOG_CHUNK_BYTES
from mycelium.engine.orders import Chunk, Tail

QUICK_S, SLOW_S = 0.01, 0.08
STREAMS = ("stdout", "stderr")


def read_at(directory: str, stream: str, offset: int) -> tuple[int, bytes]:
    """The next bytes at or after `offset`, and where they begin: later when those asked for were dropped."""
    for start, path in pump.segments(directory, stream):
        try:
            with open(path, "rb") as file:
                inside = max(0, offset - start)
                file.seek(inside)
                data = file.read(LOG_CHUNK_BYTES)
        except OSError:
            continue  # dropped since it was listed
        if data:
            return start + inside, data
    return offset, b""


async def send(order: Tail, held: HeldStep, put: Callable[[Chunk], Awaitable[None]]) -> None:
    """Send `Chunk`s, the last with `end`."""
    offset, wait_s = order.offset, QUICK_S
    while order.stream in STREAMS:
        # Asked before reading: what is found empty after the end stays empty.
        is_over = held.phase in (Phase.COLLECTING, Phase.GONE)
        start, data = read_at(held.path, order.stream, offset)
        if data:
            offset, wait_s = start + len(data), QUICK_S
            await put(Chunk(order.tail, start, data))
            continue
        if is_over or not order.follow:
            break
        await asyncio.sleep(wait_s)
        wait_s = min(SLOW_S, wait_s * 1.5)
    await put(Chunk(order.tail, offset, b"", end=True))
