"""The gateway's side of its head: the table as it changes, and commands. A head that is away is waited for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from mycelium.base.errors import KINDS, Problem, Unavailable
from mycelium.base.home import Home
from mycelium.inference.commands import GatewayCommand
from mycelium.serve.gateway.table import GatewayTable
from mycelium.serve.http1.client import Broken, HttpClient, Target, target_of

ANSWER_BYTES_MAX = 64 << 20
RETRY_S = 0.1
SILENCE_S = 15.0  # of a table's stream before it is opened anew
log = logging.getLogger("mycelium.gateway")
_tables = msgspec.json.Decoder(GatewayTable)


class GatewayLink:
    def __init__(self, home: Path, client: HttpClient) -> None:
        self._home = Home(home)
        self._client = client

    async def follow(self, heard: Callable[[GatewayTable], None]) -> None:
        """Until cancelled: every table that the head tells, from whichever life of it."""
        while True:
            with contextlib.suppress(Broken, Problem, TimeoutError, msgspec.DecodeError):
                await self._follow_once(heard)
            await asyncio.sleep(RETRY_S)

    async def _follow_once(self, heard: Callable[[GatewayTable], None]) -> None:
        target, headers = self._head()
        reply = await self._client.send(target, "GET", "/gateway/table", headers=headers)
        try:
            if reply.status != 200:
                return
            waiting = bytearray()
            pieces = reply.pieces()
            while True:
                async with asyncio.timeout(SILENCE_S):
                    waiting += await anext(pieces)
                *lines, rest = waiting.split(b"\n")
                waiting = bytearray(rest)
                whole = [line for line in lines if line]
                if whole:
                    heard(_tables.decode(whole[-1]))
        except StopAsyncIteration:
            return
        finally:
            reply.close()

    async def do(self, command: GatewayCommand) -> Any:
        """Errors: those of the head; `Unavailable` while it is away."""
        return (await self._ask("POST", "/gateway/do", msgspec.json.encode(command)))["answer"]

    async def do_surely(self, command: GatewayCommand) -> Any:
        """Said again until the head has answered. Only for what may be said twice."""
        while True:
            try:
                return await self.do(command)
            except Unavailable:
                await asyncio.sleep(RETRY_S)

    async def get(self, path: str) -> Any:
        return await self._ask("GET", path)

    async def _ask(self, method: str, path: str, body: bytes = b"") -> Any:
        target, headers = self._head()
        try:
            reply = await self._client.send(target, method, path, body, headers)
            try:
                data = await reply.read(ANSWER_BYTES_MAX)
            finally:
                reply.close()
            found = msgspec.json.decode(data)
        except (Broken, msgspec.DecodeError):
            raise Unavailable("the head does not answer", hint="it is tried again") from None
        if reply.status >= 300:
            said = found["error"]
            raise KINDS.get(said["kind"], Unavailable)(said["message"], hint=said["hint"])
        return found

    def _head(self) -> tuple[Target, dict[str, str]]:
        """Where the head is now, as its home says. Errors: `Unavailable`."""
        try:
            url = msgspec.json.decode(self._home.site.read_bytes())["url"]
            token = self._home.gateway_token.read_text().strip()
        except (OSError, msgspec.DecodeError, KeyError, TypeError):
            raise Unavailable("the head is away") from None
        return target_of(url), {"authorization": f"Bearer {token}"}
