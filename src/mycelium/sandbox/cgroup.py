"""A control group for every step, where cgroup v2 offers this agent the controllers that count.

It limits and measures a step whole, however many processes it has, and ends it whole. Where there is none, `rlimits`
and the watch of `usage` do what they can.

Source: Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from mycelium.base.limits import STEP_PROCESSES_MAX

ROOT = Path("/sys/fs/cgroup")
NEEDED = ("memory", "pids", "cpu")
PERIOD_US = 100_000
REMOVE_TRIES = 50  # a dying process may linger in its group for some milliseconds
REMOVE_WAIT_S = 0.02


def own(root: Path = ROOT, membership: Path = Path("/proc/self/cgroup")) -> Path | None:
    """The cgroup v2 directory that this process is in."""
    try:
        for line in membership.read_text().splitlines():
            if line.startswith("0::"):
                return root / line[3:].lstrip("/")
    except OSError:
        return None
    return None


def find(root: Path = ROOT, membership: Path = Path("/proc/self/cgroup")) -> Path | None:
    """The nearest directory at or above our own in which groups with all `NEEDED` controllers can be made, or None.

    A group that holds processes can hand no controllers down, so that it is seldom our own.
    """
    here = own(root, membership)
    while here is not None and (here == root or root in here.parents):
        if _offers(here):
            return here
        here = here.parent if here != root else None
    return None


def _offers(directory: Path) -> bool:
    """Whether it hands down, or can be made to hand down, every controller, and lets us make groups in it."""
    try:
        if not set(NEEDED) <= set((directory / "cgroup.controllers").read_text().split()):
            return False
        control = directory / "cgroup.subtree_control"
        lacking = set(NEEDED) - set(control.read_text().split())
        if lacking:
            control.write_text(" ".join(f"+{name}" for name in sorted(lacking)))
        return os.access(directory, os.W_OK) and os.access(directory / "cgroup.procs", os.W_OK)
    except OSError:
        return False


class Group:
    """One step's control group. Writing a limit that the kernel lacks is not an error; joining must succeed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self, memory_bytes: int, cpu_m: int) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self._write("memory.max", str(memory_bytes))
        self._write("memory.oom.group", "1")
        self._write("memory.swap.max", "0")
        self._write("pids.max", str(STEP_PROCESSES_MAX))
        self._write("cpu.max", f"{max(1000, cpu_m * PERIOD_US // 1000)} {PERIOD_US}")

    def join(self) -> None:
        """Move the calling process in."""
        (self.path / "cgroup.procs").write_text("0")

    def kill(self) -> None:
        self._write("cgroup.kill", "1")

    def cpu_ms(self) -> int:
        return self._pairs("cpu.stat").get("usage_usec", 0) // 1000

    def memory_bytes(self) -> int:
        return self._number("memory.current")

    def memory_peak_bytes(self) -> int:
        return self._number("memory.peak")

    def killed_for_memory(self) -> bool:
        return self._pairs("memory.events").get("oom_kill", 0) > 0

    def remove(self) -> bool:
        """End what is left in it, then the group itself."""
        for _ in range(REMOVE_TRIES):
            try:
                self.path.rmdir()
            except FileNotFoundError:
                return True
            except OSError:
                self.kill()
                time.sleep(REMOVE_WAIT_S)
            else:
                return True
        return False

    def _write(self, name: str, value: str) -> None:
        with contextlib.suppress(OSError):
            (self.path / name).write_text(value)

    def _read(self, name: str) -> str:
        try:
            return (self.path / name).read_text()
        except OSError:
            return ""

    def _number(self, name: str) -> int:
        text = self._read(name).strip()
        return int(text) if text.isdigit() else 0

    def _pairs(self, name: str) -> dict[str, int]:
        pairs = (line.split() for line in self._read(name).splitlines())
        return {words[0]: int(words[1]) for words in pairs if len(words) == 2 and words[1].isdigit()}
