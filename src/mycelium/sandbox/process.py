"""Naming a process for good: a pid alone may come again, even after a reboot."""

from __future__ import annotations

import json
import os
import select
import signal
from typing import NamedTuple

from mycelium.sandbox.usage import start_ticks

FILE_BYTES_MAX = 4096


class Process(NamedTuple):
    pid: int
    ticks: int
    boot: str
    started_ns: int  # by the wall clock, for people

    def lives(self) -> bool:
        return self.boot == boot_id() and start_ticks(self.pid) == self.ticks != 0

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal to this process and to no later one of its pid; False when it is gone."""
        try:
            fd = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            if not self.lives():
                return False
            signal.pidfd_send_signal(fd, number)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    def wait_gone(self, timeout_s: float) -> bool:
        """Wait for its end; True when it has come."""
        try:
            fd = os.pidfd_open(self.pid)
        except OSError:
            return True
        try:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            return not self.lives() or bool(poll.poll(timeout_s * 1000)) or not self.lives()
        finally:
            os.close(fd)

    def encode(self) -> bytes:
        return json.dumps(self._asdict()).encode()


NOBODY = Process(0, 0, "", 0)


def this(started_ns: int) -> Process:
    me = os.getpid()
    return Process(me, start_ticks(me), boot_id(), started_ns)


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def read(path: str) -> Process | None:
    """The process that is named there; None when there is no such file, or it names none."""
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(FILE_BYTES_MAX))
        return Process(int(found["pid"]), int(found["ticks"]), str(found["boot"]), int(found["started_ns"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
