"""The agent's connection to its head: one Unix socket, opened again for as long as the site exists."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from mycelium.base import framing
from mycelium.base.errors import Problem, Unavailable
from mycelium.base.limits import FRAME_BYTES_MAX
from mycelium.engine import frames
from mycelium.engine.orders import Order, Report

RETRY_S_MIN, RETRY_S_MAX = 0.1, 1.0
SENT_WAIT_S = 2.0
UNSENT_BYTES_MAX = FRAME_BYTES_MAX  # towards a head that does not read; beats and ends are repeated anyway

log = logging.getLogger(__name__)


class AgentLink:
    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._writer: asyncio.StreamWriter | None = None

    def send(self, report: Report) -> bool:
        """Send if the head reads; False when the report was dropped."""
        writer = self._writer
        if writer is None or writer.transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            return False
        try:
            writer.write(frames.pack(report))
        except Problem as error:
            log.error("report not sent: %s", error)
            return False
        return True

    async def wait_send(self, report: Report) -> None:
        """Send, and wait until the head has room for more. Errors: Unavailable when the connection is gone."""
        writer = self._writer
        if writer is None or not self.send(report):
            raise Unavailable("the head is not connected")
        try:
            await writer.drain()
        except ConnectionError as error:
            raise Unavailable("the head went away") from error

    async def wait_sent(self) -> None:
        """Wait until everything is with the kernel, or the head has not read for too long."""
        writer = self._writer
        if writer is not None:
            writer.transport.set_write_buffer_limits(0)
            with contextlib.suppress(ConnectionError, TimeoutError):
                await asyncio.wait_for(writer.drain(), SENT_WAIT_S)

    async def run(
        self, greet: Callable[[], None], handle: Callable[[Order], Awaitable[None]], parted: Callable[[], None]
    ) -> None:
        """Connect, greet and pass on orders, for ever. `parted` is called when a connection has ended."""
        wait_s = RETRY_S_MIN
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(str(self._socket))
            except OSError:
                await asyncio.sleep(wait_s)
                wait_s = min(RETRY_S_MAX, wait_s * 2)
                continue
            wait_s = RETRY_S_MIN
            try:
                greet()
                await self._read(reader, handle)
            finally:
                self._writer.close()
                self._writer = None
                parted()
            await asyncio.sleep(wait_s)

    async def _read(self, reader: asyncio.StreamReader, handle: Callable[[Order], Awaitable[None]]) -> None:
        try:
            while (body := await framing.read(reader)) is not None:
                try:
                    order = frames.unpack_order(body)
                except Problem as error:
                    log.error("order ignored: %s", error)
                    continue
                await handle(order)
        except Problem as error:
            log.error("connection dropped: %s", error)
