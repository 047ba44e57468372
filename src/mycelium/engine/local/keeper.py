"""Keeping one agent alive: find the one that lives, start one when none does, and again when it dies.

Never: touches a step; those belong to their shims.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mycelium.base.appended import appended
from mycelium.base.home import Home, NodeFiles
from mycelium.base.ids import NodeId
from mycelium.engine import step_files
from mycelium.sandbox import process
from mycelium.sandbox.process import Process
from mycelium.sandbox.strays import end_strays

RETRY_S_MIN, RETRY_S_MAX = 0.1, 5.0
LIVED_WELL_S = 10.0  # an agent that lived this long is started again without delay
KILLED_WAIT_S = 5.0

log = logging.getLogger(__name__)


class Keeper:
    def __init__(self, home: Path, node: NodeId, arguments: Sequence[str]) -> None:
        self.node = node
        self.files = Home(home).node(node)
        self._words = [sys.executable, "-P", "-m", "mycelium.agent", *arguments]
        self._child: subprocess.Popen[bytes] | None = None

    async def keep(self) -> None:
        """Until cancelled."""
        wait_s = RETRY_S_MIN
        while True:
            agent = self.living()
            begun = time.monotonic()
            try:
                pid = agent.pid if agent is not None else self._start()
            except OSError as error:
                log.error("agent of %s could not be started: %s", self.node, error)
            else:
                await wait_end(pid)
            if self._child is not None and self._child.poll() is not None:
                log.warning("agent of %s ended with %s", self.node, self._child.returncode)
                self._child = None
            wait_s = RETRY_S_MIN if time.monotonic() - begun > LIVED_WELL_S else min(RETRY_S_MAX, wait_s * 2)
            await asyncio.sleep(wait_s)

    def living(self) -> Process | None:
        """The agent that has this node now, whoever started it."""
        found = process.read(str(self.files.agent_pid))
        return found if found is not None and found.lives() else None

    def _start(self) -> int:
        self.files.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with appended(self.files.agent_log) as output:
            self._child = subprocess.Popen(
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,  # it outlives the head, and a Ctrl-C there
            )
        return self._child.pid

    async def wait_ended(self) -> None:
        agent = self.living()
        while agent is not None:
            await wait_end(agent.pid)
            self.reap()
            agent = self.living()

    def reap(self) -> None:
        if self._child is not None:
            self._child.poll()

    def wake(self, *, hears: bool) -> None:
        """Let a stopped agent hear what it is told; one that is not connected is told by a signal."""
        agent = self.living()
        if agent is not None:
            agent.signal(signal.SIGCONT)
            if not hears:
                agent.signal(signal.SIGTERM)

    def kill(self) -> None:
        agent = self.living()
        if agent is not None:
            agent.signal(signal.SIGKILL)
            agent.wait_gone(KILLED_WAIT_S)
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def kill_steps(self) -> None:
        """End what an agent left running. Each payload goes with its shim."""
        kill_steps(self.files)


def kill_steps(node: NodeFiles) -> None:
    shims = {path.parent: process.read(str(path)) for path in node.steps.glob(f"*/{step_files.PID}")}
    alive = {directory: shim for directory, shim in shims.items() if shim is not None and shim.signal(signal.SIGKILL)}
    for directory, shim in alive.items():
        shim.wait_gone(KILLED_WAIT_S)
        end_strays(directory)


async def wait_end(pid: int) -> None:
    """Return when this process has ended, child or not."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(fd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)
