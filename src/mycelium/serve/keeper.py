"""Keeping the gateways alive: started when there is something to serve, found by the next head, ended with the site.

Like an agent each outlives a head that is killed: what streams goes on streaming.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from mycelium.base import files
from mycelium.base.appended import appended
from mycelium.base.home import Home
from mycelium.engine.local.keeper import wait_end
from mycelium.head.core import Core
from mycelium.sandbox.process import Process
from mycelium.serve.gateway.paths import living, numbers
from mycelium.serve.upstream_keys import UpstreamKeys

LOOK_S = 0.1
RETRY_S_MIN, RETRY_S_MAX = 0.2, 5.0
LIVED_WELL_S = 10.0
END_S = 15.0

log = logging.getLogger("mycelium.serve")


class Access(Struct, frozen=True):
    """How gateways of this home show that they are."""

    token: str
    home: Path
    upstream_keys: UpstreamKeys


def access(home: Path, upstreams: Mapping[str, str]) -> Access:
    """The token that lies in the home, made when it is not there. `upstreams`: of each deployment, by name."""
    path = Home(home).gateway_token
    path.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        token = path.read_text().strip()
    except FileNotFoundError:
        token = ""
    if not token:
        token = secrets.token_urlsafe(32)
        files.write(path, token + "\n", durable=True)
    return Access(token, home, UpstreamKeys(home, upstreams))


class GatewayKeeper:
    """All gateways of a site. With a port given, the first listens there and the others on those after it."""

    def __init__(self, home: Path, core: Core, host: str, port: int, count: int) -> None:
        self._home = home
        self._core = core
        self._host = host
        self._port = port
        self._count = count

    async def keep(self) -> None:
        """Until cancelled. Those that a head before this one had beyond so many are ended."""
        async with asyncio.TaskGroup() as group:
            for number in numbers(self._home):
                if number > self._count:
                    group.create_task(self._end(number, END_S))
            for number in range(1, self._count + 1):
                group.create_task(self._keep(number))

    async def _keep(self, number: int) -> None:
        wait_s = RETRY_S_MIN
        while True:
            gateway = living(self._home, number)
            if gateway is None and not self._wanted():
                await asyncio.sleep(LOOK_S)
                continue
            begun = time.monotonic()
            try:
                await self._wait_end(number, gateway)
            except OSError as error:
                log.warning("gateway %d cannot be started: %s", number, error)
            wait_s = RETRY_S_MIN if time.monotonic() - begun > LIVED_WELL_S else min(RETRY_S_MAX, wait_s * 2)
            await asyncio.sleep(wait_s)

    async def _wait_end(self, number: int, gateway: Process | None) -> None:
        if gateway is not None:
            await wait_end(gateway.pid)
            return
        child = self._start(number)
        await wait_end(child.pid)
        log.warning("gateway %d ended with %s", number, child.wait())

    def _wanted(self) -> bool:
        state = self._core.site.inference
        return bool(state.deployments or state.keys or state.files or state.batches)

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        port = self._port + number - 1 if self._port else 0
        with appended(Home(self._home).gateway(number).log) as output:
            return subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "mycelium.serve.gateway", "--home", str(self._home)),
                    *("--number", str(number), "--host", self._host, "--port", str(port)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
            )

    async def end(self, grace_ms: int) -> None:
        """The site goes down: streams get their time, then what is left is killed."""
        await asyncio.gather(*(self._end(number, min(grace_ms / 1000, END_S)) for number in numbers(self._home)))

    async def _end(self, number: int, grace_s: float) -> None:
        gateway = living(self._home, number)
        if gateway is None:
            return
        gateway.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                await wait_end(gateway.pid)
        except TimeoutError:
            gateway.signal(signal.SIGKILL)
