"""The driver of Ray as its pool keeps it: a child process, and the socket on which both tell each other things.

Never: tries again by itself; whoever keeps it says when.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from mycelium.pools.ray import messages
from mycelium.pools.ray.messages import JoinPool
from mycelium.pools.ray.offer import RayOffer

END_S = 3.0  # for a driver to say goodbye to Ray
_SETTINGS = {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL": "minor",
}


class Child:
    """`heard` is called when something was said, or it has ended: `said` tells. It can be started again."""

    def __init__(self, selector: selectors.BaseSelector, heard: Callable[[int], None]) -> None:
        self._selector, self._heard = selector, heard
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    @property
    def pid(self) -> int:
        """0 while there is none."""
        return self._process.pid if self._process is not None else 0

    def start(self, offer: RayOffer, wanted: dict[str, int]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mycelium.pools.ray.driver", str(theirs.fileno()), str(os.getpid())],
                pass_fds=(theirs.fileno(),),
                process_group=0,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(_path()), **_SETTINGS, **offer.environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._control = ours
        self._selector.register(ours, selectors.EVENT_READ, self._heard)
        self.say(JoinPool(offer.address, wanted, tuple(_path())))

    def say(self, message: messages.ToDriver, *fds: int) -> None:
        if self._control is not None:
            with contextlib.suppress(OSError):  # it is gone, which is heard of by itself
                socket.send_fds(self._control, [messages.pack(message)], fds)

    def said(self) -> Iterator[messages.ToPool | None]:
        """What it has said since the last time; None at last when it is gone."""
        while self._control is not None:
            try:
                data = self._control.recv(1 << 20)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                yield None
                return
            yield messages.to_pool.decode(data)

    def ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def part(self) -> None:
        """Say nothing more and hear nothing more; it ends by itself when it can."""
        if self._control is not None:
            self._selector.unregister(self._control)
            self._control.close()
            self._control = None

    def bury(self, patience_s: float = 0.0) -> None:
        """Waits until it has ended, which it does at once after this time."""
        self.part()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience_s)
            self._process.kill()
            self._process.wait()
            self._process = None


def _path() -> list[str]:
    return [entry or str(Path.cwd()) for entry in sys.path]
