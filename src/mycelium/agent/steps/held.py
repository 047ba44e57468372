"""What the agent knows of one step."""

from __future__ import annotations

import asyncio
import os
from enum import StrEnum
from pathlib import Path

from mycelium.engine import step_files
from mycelium.engine.orders import Ended, Step
from mycelium.engine.spec import Spec


class Phase(StrEnum):
    PREPARING = "preparing"  # its directory is being filled
    RUNNING = "running"  # a shim has it
    COLLECTING = "collecting"  # it ended; outputs and logs go into the object store
    GONE = "gone"  # all is known; kept until the head says forget


class HeldStep:
    """A step from its acceptance until it is forgotten."""

    def __init__(self, step: Step, directory: Path) -> None:
        self.step = step
        self.directory = directory
        self.phase = Phase.PREPARING
        self.spec: Spec | None = None
        self.started_ns = 0
        self.ended: Ended | None = None
        self.stop_grace_ms: int | None = None  # an order to stop that came before there was a shim
        self.pid_fd = -1
        self.ready_fd = -1  # the shim says here when the payload began to run
        self._tails = 0
        self.read = asyncio.Event()  # set while nobody follows its log
        self.read.set()
        self.over = asyncio.Event()  # set once it is gone

    @property
    def work(self) -> Path:
        return self.directory / step_files.WORK

    @property
    def path(self) -> str:
        return str(self.directory)

    def begin_tail(self) -> None:
        self._tails += 1
        self.read.clear()

    def end_tail(self) -> None:
        self._tails -= 1
        if not self._tails:
            self.read.set()

    def close(self) -> None:
        for fd in (self.pid_fd, self.ready_fd):
            if fd >= 0:
                os.close(fd)
        self.pid_fd = self.ready_fd = -1
