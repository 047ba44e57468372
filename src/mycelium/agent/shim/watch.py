"""The shim's eye on what its step uses: memory and processes where no cgroup counts them, and disk.

A look costs time, so the next one is put off by what the last one cost, and comes sooner near a bound.
Standard library, msgspec and rules only: the shim uses it.
"""


# Paths are strings here, because this runs at the start of every step.
# ruff: noqa: PTH110, PTH116, PTH118

from __future__ import annotations

import os
import time
from collections.abc import Callable

from mycelium.base.limits import DISK_RESERVE_BYTES, STEP_PROCESSES_MAX
from mycelium.base.units import format_size
from mycelium.engine.spec import Spec
from mycelium.engine.step_files import WORK
from mycelium.sandbox import usage
from mycelium.sandbox.cgroup import Group

FIRST_MS = 30
NEAR_MS, FAR_MS = 100, 300
DISK_MS = 1_000
COST_SHARE = 20  # a look may cost one part in so many of a cpu


class Watch:
    def __init__(self, spec: Spec, directory: str, group: Group | None) -> None:
        self._memory_bytes_max = spec.step.devices.memory_bytes
        self._disk_bytes_max = spec.disk_bytes
        self._boxed = spec.boxed
        self._directory = directory
        self._group = group
        self._memory_device = usage.memory_files_device()
        self.peak_bytes = 0
        now_ms = _boot_ms()
        self.next_ms = now_ms + FIRST_MS
        self._disk_next_ms = now_ms + DISK_MS

    def look(self, now_ms: int, init_pid: int, below: Callable[[], list[int]]) -> tuple[str, str] | None:
        """The reason to end the step, with a message; None when there is none."""
        begun_ns = time.monotonic_ns()
        disk_is_due = now_ms >= self._disk_next_ms or usage.is_short(self._directory, DISK_RESERVE_BYTES // 2)
        excess = None
        wait_ms = FAR_MS
        if self._group is None or disk_is_due:
            proc, members, tmpfs = self._members(init_pid, below)
            open_files = usage.nameless(members, proc)
            if self._group is None:
                files_bytes = sum(usage.filled_bytes(path) for path in tmpfs) + open_files.get(self._memory_device, 0)
                used = usage.memory(members, proc, files_bytes, max(self._memory_bytes_max, self.peak_bytes))
                excess = self._memory_excess(used)
                near = used.memory_bytes > self._memory_bytes_max // 2 or used.processes > STEP_PROCESSES_MAX // 2
                wait_ms = NEAR_MS if near else FAR_MS
            if excess is None and disk_is_due:
                excess = self._disk_excess(open_files)
                self._disk_next_ms = _boot_ms() + max(DISK_MS, _cost_ms(begun_ns) * COST_SHARE)
        self.next_ms = _boot_ms() + max(wait_ms, _cost_ms(begun_ns) * COST_SHARE)
        return excess

    def _members(self, init_pid: int, below: Callable[[], list[int]]) -> tuple[str, list[int], list[str]]:
        """The step's processes, through the sandbox's own /proc when there is one: it lists them and no others."""
        if not self._boxed:
            return "/proc", below(), []
        root = f"/proc/{init_pid}/root"
        members = sandboxed(init_pid)
        return f"{root}/proc", members, [f"{root}/tmp", f"{root}/dev/shm"] if members else []

    def _memory_excess(self, used: usage.ProcessesUsed) -> tuple[str, str] | None:
        self.peak_bytes = max(self.peak_bytes, min(used.memory_bytes, self._memory_bytes_max))
        if used.memory_bytes > self._memory_bytes_max:
            asked, had = format_size(self._memory_bytes_max), format_size(used.memory_bytes)
            self.peak_bytes = used.memory_bytes
            return "memory", f"used {had} of memory in {used.processes} processes; it asked for {asked}"
        if used.processes > STEP_PROCESSES_MAX:
            return "memory", f"had {used.processes} processes; a step may have {STEP_PROCESSES_MAX}"
        return None

    def _disk_excess(self, open_files: dict[int, int]) -> tuple[str, str] | None:
        work = os.path.join(self._directory, WORK)
        taken_bytes = usage.disk(work, self._disk_bytes_max) + open_files.get(os.stat(work).st_dev, 0)
        if taken_bytes > self._disk_bytes_max:
            return "disk", f"wrote {format_size(taken_bytes)}; a step may write {format_size(self._disk_bytes_max)}"
        if taken_bytes > DISK_RESERVE_BYTES and usage.is_short(self._directory, DISK_RESERVE_BYTES // 2):
            return "disk", f"the node's disk is full, and this step holds {format_size(taken_bytes)} of it"
        return None


def sandboxed(init_pid: int) -> list[int]:
    """The processes of a sandbox, by their numbers inside; none while it is being built.

    Until bubblewrap has changed roots, the /proc that it sees is the host's. There, and only there, we are listed too.
    """
    proc = f"/proc/{init_pid}/root/proc"
    return [] if not init_pid or os.path.exists(f"{proc}/self") else usage.pids(proc)


def _boot_ms() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def _cost_ms(begun_ns: int) -> int:
    return (time.monotonic_ns() - begun_ns) // 1_000_000
