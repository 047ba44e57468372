"""Worker processes of this machine as a crew: started together, once, and replaced when they die.

Never: leaves a process behind, however the pool's own process ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from mycelium.base.errors import Refused
from mycelium.base.limits import POOL_WORKERS_MAX
from mycelium.polymer.here import IN_WORKER
from mycelium.pools.local.seat import PacketSeat
from mycelium.pools.pool import CrewedPool

AHEAD_NS = 4_000_000  # a worker holds so much expected work beyond what it runs
STARTS_MAX = 5  # workers in a row that end before they are ready, until the pool gives up
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_BOOT = (
    "import sys; sys.path[:] = eval(sys.argv[4]); "
    "from mycelium.pools.local import worker; worker.main(*map(int, sys.argv[1:4]))"
)


class Processes:
    start_s = 30.0

    def __init__(self, pool: CrewedPool, count: int) -> None:
        if not 1 <= count <= POOL_WORKERS_MAX:
            raise Refused(f"a pool of {count} workers; it can have 1 to {POOL_WORKERS_MAX}")
        self.pool, self.slots = pool, count
        self.failed_starts = 0
        self.ready_s = time.monotonic()  # when a worker was last known to be ready

    def seats(self) -> list[ProcessSeat]:
        return [seat for seat in self.pool.feeder.seats if isinstance(seat, ProcessSeat)]

    def begin(self) -> None:
        for _ in range(self.slots):
            self.pool.feeder.join(ProcessSeat(self))

    def missing(self) -> str:
        ready = sum(seat.ready for seat in self.seats())
        return "" if ready == self.slots else f"{ready} of {self.slots} are ready"

    def tend(self) -> None:
        """A worker that has ended is heard of by its socket."""

    def came(self) -> None:
        self.failed_starts = 0
        self.ready_s = time.monotonic()

    def replace(self, seat: ProcessSeat) -> None:
        """Put a new worker in the place of one that is gone, unless none ever becomes ready."""
        status = seat.kill()
        why = f"worker {seat.process.pid} {_ending(status)}"
        if seat.ready:
            self.ready_s = time.monotonic()
        elif status != -signal.SIGKILL:  # killing is somebody else's doing
            self.failed_starts += 1
        late = not seat.ready and time.monotonic() - self.ready_s > self.start_s
        if self.failed_starts > STARTS_MAX or (late and not any(one.ready for one in self.pool.feeder.seats)):
            self.pool.fail(f"{why} before it was ready")
        self.pool.feeder.lose(seat, why)
        seat.packets.close()
        if not self.pool.closing:
            self.pool.feeder.join(ProcessSeat(self))

    def close(self) -> None:
        seats = self.seats()
        for seat in seats:
            _kill(seat.process)
        for seat in seats:
            seat.process.wait()
            self.pool.feeder.lose(seat, "was ended with its pool")
            seat.packets.close()


class ProcessSeat(PacketSeat):
    early = True  # the socket keeps its first batch until it has started
    ended_ns = 1_000_000_000  # a tenth of it gives another worker

    def __init__(self, crew: Processes) -> None:
        super().__init__(crew.pool, AHEAD_NS)
        self.crew = crew
        theirs, mark = self.packets.theirs.fileno(), self.packets.their_mark
        path = repr([entry or str(Path.cwd()) for entry in sys.path])
        self.process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, str(theirs), str(mark), str(os.getpid()), path],
            pass_fds=(theirs, mark),
            process_group=0,
            env=_environment(crew.slots),
            stdin=subprocess.DEVNULL,
        )
        self.packets.handed_over()

    def came(self) -> None:
        self.crew.came()
        super().came()

    def end(self) -> None:
        self.crew.replace(self)

    def kill(self) -> int:
        """The status with which it ends, or has ended."""
        _kill(self.process)
        return self.process.wait()


def _environment(workers: int) -> dict[str, str]:
    """The caller's own. Unless the caller says otherwise, the threads of numeric libraries are divided among the
    workers, and large blocks of memory come in large pages: finding small ones takes longer than filling them.
    """
    share = str(max(1, len(os.sched_getaffinity(0)) // workers))
    return {**dict.fromkeys(_THREADS, share), "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", **os.environ, IN_WORKER: "1"}


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
