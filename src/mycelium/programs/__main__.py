"""What the step of a program job runs: the program in its directory, on the lease's cpus.

Rank 0 runs it and writes the result; the other ranks of a gang work for it. Runs inside the step's sandbox.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from mycelium.jobs.program import INPUT_FILE, PROGRAM_FILE, RESULT_FILE
from mycelium.polymer.compiler.compile import optimise
from mycelium.polymer.container import pmr, values
from mycelium.polymer.program.inputs import check_inputs
from mycelium.polymer.runtime.costs import Cost
from mycelium.polymer.runtime.dataflow import Run, run
from mycelium.pools.gang.driver import GangPool
from mycelium.pools.gang.worker import work_for
from mycelium.pools.local.pool import LocalPool
from mycelium.pools.pool import CrewedPool
from mycelium.programs.pages import PagedMemo, directory
from mycelium.programs.report import VERBOSE, cost_lines, say_failure, say_progress

PROGRESS_S = 0.25


def main() -> int:
    name, rank = os.environ.get("MYC_NODE_NAME", ""), int(os.environ.get("MYC_NODE_RANK", "0"))
    try:
        if rank > 0:
            with LocalPool(workers()) as pool:
                work_for(*_gang(), name, pool)
        with _driving() as pool:
            data = values.pack(_result(pool))
        Path(RESULT_FILE).write_bytes(data)
    except Exception as error:  # the top of the process: the client hears of it
        say_failure(error, name, sys.stderr)
        return 1
    return 0


def _driving() -> CrewedPool:
    if int(os.environ.get("MYC_NODE_COUNT", "1")) == 1:
        return LocalPool(workers())
    offer = Path(os.environ.get("MYC_POOL", ""))
    if offer.is_file():
        return _offered(offer)
    pool = GangPool(workers())
    pool.others.listen(*_gang())
    return pool


def _offered(offer: Path) -> CrewedPool:
    """The engine's own pool on the other nodes of the lease, and our own workers here, which work while it comes.

    The other ranks only hold their lease, and dial in vain.
    """
    from mycelium.pools.ray import offer as pool_offer
    from mycelium.pools.ray import pool

    nodes = Counter(os.environ["MYC_NODE_ADDRESSES"].split(",")[1:])  # shares of one machine all have its address
    slots = {address: count * workers() for address, count in nodes.items()}
    return pool.RayPool(lambda: pool_offer.read(offer), nodes=slots, here=workers())


def _gang() -> tuple[str, int, str]:
    """Where rank 0 listens, and what its ranks know each other by."""
    address = os.environ["MYC_NODE_ADDRESSES"].partition(",")[0]
    return address, int(os.environ["MYC_GANG_PORT"]), os.environ["MYC_GANG_SECRET"]


def workers() -> int:
    """As many as the step was given cpus."""
    return max(1, round(float(os.environ.get("MYC_CPUS", "1"))))


def _result(pool: CrewedPool) -> Any:
    module = pmr.read(Path(PROGRAM_FILE).read_bytes()).module
    inputs = values.read(Path(INPUT_FILE).read_bytes())
    check_inputs(module, inputs)
    memo = PagedMemo(directory()) if any(kernel.cache for kernel in module.kernels.values()) else None
    costs: dict[str, Cost] = {}
    result = run(optimise(module), inputs, pool, watch=_Teller(), memo=memo, costs=costs)
    if os.environ.get(VERBOSE) == "1":
        sys.stderr.write("".join(f"{line}\n" for line in cost_lines(costs)))
    if memo is not None:
        memo.save()
    return result


class _Teller:
    """Says now and then how far the run is."""

    def __init__(self) -> None:
        self.said = (0, 0)
        self.next_s = time.monotonic() + PROGRESS_S

    def __call__(self, running: Run) -> None:
        if time.monotonic() < self.next_s:
            return
        self.next_s = time.monotonic() + PROGRESS_S
        if (now := running.progress()) != self.said:
            self.said = now
            say_progress(*now, sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
