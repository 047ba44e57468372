"""The limits that every Linux has: setrlimit(2), and the cpus that a step may run on.

They bound one process each, so they are the net below cgroups or the watch of `usage`, not the measure itself.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from typing import NamedTuple

from mycelium.base.limits import STEP_FILES_MAX, STEP_PROCESSES_MAX
from mycelium.base.units import MIB

# Room for address space that is writable but never touched (thread stacks, arenas), which RLIMIT_DATA counts.
DATA_SLACK_BYTES = 512 * MIB


class Rlimits(NamedTuple):
    memory_bytes: int
    disk_bytes: int
    processes: int = STEP_PROCESSES_MAX

    def pairs(self) -> Iterable[tuple[int, int]]:
        """Not RLIMIT_AS: WebAssembly and JIT runtimes reserve far more address space than they use."""
        return (
            (resource.RLIMIT_DATA, 2 * self.memory_bytes + DATA_SLACK_BYTES),
            (resource.RLIMIT_NPROC, self.processes),
            (resource.RLIMIT_FSIZE, self.disk_bytes),
            (resource.RLIMIT_NOFILE, STEP_FILES_MAX),
            (resource.RLIMIT_MEMLOCK, self.memory_bytes),
            (resource.RLIMIT_CORE, 0),
        )

    def apply(self) -> None:
        for kind, most in self.pairs():
            _, hard = resource.getrlimit(kind)
            bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(kind, (bound, bound))


def bind_to(cores: Iterable[int]) -> None:
    """Run on these cpus only; nothing happens when the machine no longer has them."""
    allowed = os.sched_getaffinity(0) & set(cores)
    if allowed:
        os.sched_setaffinity(0, allowed)
