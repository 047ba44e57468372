"""Connections to the Unix sockets of steps, whose directories are the steps' doing.

Never: follows a link.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat

LIMIT_BYTES = 64 * 1024
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def open_unix(path: str) -> Pair:
    """Through an open file: a step's directory may lie deeper than the 107 bytes that the address of a socket can hold,
    and what lies there is the step's doing: a link to somebody else's socket is not followed. Errors: `OSError`."""
    held = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(held).st_mode):
            raise OSError("no socket")
        return await asyncio.open_unix_connection(f"/proc/self/fd/{held}", limit=LIMIT_BYTES)
    finally:
        os.close(held)


def cut(pair: Pair) -> None:
    """At once, whatever was still to be sent."""
    with contextlib.suppress(Exception):
        pair[1].transport.abort()
