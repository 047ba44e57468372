"""Keeping the gateway alive: started when there is something to serve, found by the next head, ended with the site.

Like an agent it outlives a head that is killed: what streams goes on streaming.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

from msgspec import Struct

from mycelium.engine.local.keeper import wait_end
from mycelium.head.core import Core
from mycelium.sandbox import process
from mycelium.sandbox.process import Process

LOOK_S = 0.1
RETRY_S_MIN, RETRY_S_MAX = 0.2, 5.0
LIVED_WELL_S = 10.0
END_S = 15.0
LOG_BYTES_MAX = 1 << 20

log = logging.getLogger("mycelium.serve")


class Access(Struct, frozen=True):
    """How gateways of this home show that they are."""

    token: str
    home: Path


def access(home: Path) -> Access:
    """The token that lies in the home, made when it is not there."""
    path = home / "tokens" / "gateway"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        token = path.read_text().strip()
    except FileNotFoundError:
        token = ""
    if not token:
        token = secrets.token_urlsafe(32)
        fresh = path.with_name(f".gateway.{os.getpid()}")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(token + "\n")
        fresh.replace(path)
    return Access(token, home)


class GatewayKeeper:
    def __init__(self, home: Path, core: Core, host: str, port: int) -> None:
        self._home = home
        self._core = core
        self._words = [
            *(sys.executable, "-P", "-m", "mycelium.serve.openai"),
            *("--home", str(home), "--host", host, "--port", str(port)),
        ]

    async def keep(self) -> None:
        """Until cancelled."""
        wait_s = RETRY_S_MIN
        while True:
            gateway = self.living()
            if gateway is None and not self._wanted():
                await asyncio.sleep(LOOK_S)
                continue
            begun = time.monotonic()
            child = None if gateway is not None else self._start()
            await wait_end(child.pid if child else gateway.pid if gateway else 0)
            if child is not None:
                log.warning("the gateway ended with %s", child.wait())
            wait_s = RETRY_S_MIN if time.monotonic() - begun > LIVED_WELL_S else min(RETRY_S_MAX, wait_s * 2)
            await asyncio.sleep(wait_s)

    def _wanted(self) -> bool:
        state = self._core.site.inference
        return bool(state.deployments or state.keys or state.files or state.batches)

    def living(self) -> Process | None:
        found = process.read(str(self._home / "gateway.pid"))
        return found if found is not None and found.lives() else None

    def _start(self) -> subprocess.Popen[bytes]:
        path = self._home / "gateway.log"
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > LOG_BYTES_MAX:
                path.rename(path.with_suffix(".log.old"))
        with path.open("ab") as output:
            return subprocess.Popen(
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
            )

    async def end(self, grace_ms: int) -> None:
        """The site goes down: streams get their time, then it is killed."""
        gateway = self.living()
        if gateway is None:
            return
        gateway.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(min(grace_ms / 1000, END_S)):
                await wait_end(gateway.pid)
        except TimeoutError:
            gateway.signal(signal.SIGKILL)
