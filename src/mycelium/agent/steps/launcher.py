"""The agent's end of the fork server: start a shim, learn its pid. A server that died is started again when needed."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import msgspec

from mycelium.agent.shim import forkserver
from mycelium.base.errors import Unavailable

TRIES_MAX, RETRY_S = 5, 0.1
# Nothing that is installed may slow or break the start of every step but msgspec: no site, no .pth files, and its place
# comes last, so that nothing there stands before the standard library.
OURS, MSGSPEC = str(Path(__file__).parents[3]), str(Path(msgspec.__file__).parents[1])
BOOT = (
    "import runpy, sys; sys.path[:] = [sys.argv[1], *sys.path, sys.argv[2]];"
    "runpy.run_module(sys.argv[3], run_name='__main__')"
)


class Launcher:
    """`life_fd`: a descriptor that every shim shall keep open for life; -1: none."""

    def __init__(self, life_fd: int = -1) -> None:
        self._life_fd = life_fd
        self._door: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = asyncio.Lock()

    async def launch(self, directory: Path, *fds: int) -> int:
        """The pid of a new shim for this step. `fds`: see `forkserver`; they stay the caller's too."""
        async with self._turn:
            for tries in range(TRIES_MAX):
                if self._door is None:
                    self.open()
                try:
                    return await self._ask(directory, fds)
                except (ConnectionError, EOFError):
                    self.close()
                    await asyncio.sleep(tries * RETRY_S)
        raise Unavailable(f"the fork server died {TRIES_MAX} times while it started a step")

    async def _ask(self, directory: Path, fds: tuple[int, ...]) -> int:
        assert self._door is not None
        socket.send_fds(self._door, [os.fsencode(directory)], fds)
        answer = await asyncio.get_running_loop().sock_recv(self._door, 4096)
        if not answer:
            raise EOFError
        pid, _, why_not = answer.decode().partition(" ")
        if pid == "0":
            raise Unavailable(f"could not fork: {why_not}")
        return int(pid)

    def open(self, output: int | None = None) -> None:
        """Start the server. Its shims complain to `output`, or to where our own standard error goes."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", BOOT, OURS, MSGSPEC, forkserver.__name__, str(self._life_fd)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=output,
                cwd="/",
                start_new_session=True,
                pass_fds=[self._life_fd] if self._life_fd >= 0 else [],
            )
        self._door = ours

    def close(self) -> None:
        """Let the server end. Its shims go on."""
        if self._door is not None:
            self._door.close()
            self._door = None
        if self._process is not None:
            self._process.kill()  # it may be stopped, and it has nothing to lose
            self._process.wait()
            self._process = None
