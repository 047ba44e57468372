"""A pool of worker processes on this machine."""

from __future__ import annotations

import os

from mycelium.pools.local.processes import Processes
from mycelium.pools.pool import CrewedPool


class LocalPool(CrewedPool):
    """Worker processes on this machine, one per core unless `workers` says how many.

    Cost: a two-worker pool is up in a tenth of a second; a tiny call and its answer take about a tenth of a
    millisecond.
    """

    def __init__(self, workers: int | None = None) -> None:
        super().__init__()
        self.workers = Processes(self, workers if workers is not None else len(os.sched_getaffinity(0)))
        self.crews = (self.workers,)
