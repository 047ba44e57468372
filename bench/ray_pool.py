"""Polymer's pool over Ray beside Ray itself, on one machine: what a call, a map and a large array cost.

`python -m bench.ray_pool` starts a Ray of its own, lean as a site's, with workers of ordinary priority
(RAY_worker_niceness=0). Ray is measured by a driver in this process, ours by its own child, on the same Ray, in turns.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import mycelium as my
from bench.alone import alone, doing
from bench.row import Row
from mycelium.base.units import MIB
from mycelium.engine.ray.raylet import Raylet, RayletPlace, free_port
from mycelium.polymer.executor import Executor
from mycelium.polymer.program.graph import Module
from mycelium.polymer.program.trace import trace
from mycelium.polymer.runtime.dataflow import run as run_on
from mycelium.polymer.schema.infer import signature
from mycelium.pools.gang.driver import GangPool
from mycelium.pools.local.pool import LocalPool
from mycelium.pools.ray.pool import RayOffer, RayPool

WORKERS = len(os.sched_getaffinity(0))
CHUNKS = (500, 1_000, 2_500, 5_000, 10_000, 12_500, 16_700, 25_000, 33_400, 50_000)  # tried by hand
SECRET = "bench"


def same(x: int) -> int:
    return x


same_kernel = my.kernel(same)


@my.program
def all_same(xs: list[int]) -> list[int]:
    return my.map(same_kernel, xs)


@my.kernel
def summed(xs: Any, number: int) -> float:
    return float(xs[number])


def elapsed_s(deed: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    deed()
    return time.perf_counter() - begun


class Raw:
    """Ray as its own documentation has it."""

    def __init__(self, ray: Any) -> None:
        self.ray = ray
        self.one = ray.remote(num_cpus=1)(same)
        self.many = ray.remote(num_cpus=1)(lambda xs: [same(x) for x in xs])
        self.item = ray.remote(num_cpus=1)(lambda xs, number: float(xs[number]))

    def one_each(self, xs: list[int]) -> None:
        self.ray.get([self.one.remote(x) for x in xs])

    def chunks(self, xs: list[int], chunk: int) -> None:
        refs = [self.many.remote(xs[at : at + chunk]) for at in range(0, len(xs), chunk)]
        out = [x for part in self.ray.get(refs) for x in part]
        assert len(out) == len(xs)

    def array(self, array: Any) -> None:
        ref = self.ray.put(array)
        self.ray.get([self.item.remote(ref, number) for number in range(4)])


@contextmanager
def cluster(root: Path) -> Iterator[Raylet]:
    raylet = Raylet(
        RayletPlace(root / "ray", "bench", port=free_port("127.0.0.1"), cpus=WORKERS, store_bytes=800 * MIB)
    )
    raylet.start()
    try:
        yield raylet
    finally:
        raylet.kill()


def joined(raylet: Raylet) -> Any:
    """Ray, with this process as a driver."""
    os.environ.update({name: value for name, value in raylet.environment.items() if name.startswith("RAY_")})
    import ray

    until = time.monotonic() + 60
    while True:
        try:
            address = f"127.0.0.1:{raylet.place.port}"
            ray.init(address=address, namespace="bench", log_to_driver=False, configure_logging=False)
            return ray
        except Exception:  # whatever Ray raises while it is not up yet; at the end of the patience it is raised
            if time.monotonic() > until:
                raise
            time.sleep(0.3)


@contextmanager
def gang(root: Path) -> Iterator[GangPool]:
    """Our own line: rank 0 with a worker here, the other workers each in a rank of its own that dials it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "MYC_NODE_COUNT": "9", "MYC_NODE_ADDRESSES": "127.0.0.1", "MYC_CPUS": "1"}
    env |= {"MYC_GANG_PORT": str(port), "MYC_GANG_SECRET": SECRET}
    words = [sys.executable, "-m", "mycelium.programs"]
    pool = GangPool(1)
    pool.others.listen("127.0.0.1", port, SECRET)
    ranks = [
        subprocess.Popen(words, env=env | {"MYC_NODE_RANK": str(rank), "MYC_NODE_NAME": f"n{rank}"}, cwd=root)
        for rank in range(1, max(2, WORKERS))
    ]
    try:
        pool.wait_ready()
        while len(pool.others.seats()) < len(ranks):
            time.sleep(0.05)
        yield pool
    finally:
        pool.close()
        for rank in ranks:
            rank.kill()
            rank.wait()


def maps(pool: RayPool, raw: Raw, root: Path, small: bool) -> list[Row]:
    count, singles, times = (20_000, 500, 3) if small else (100_000, 5_000, 15)
    xs = list(range(count))
    module = all_same.module

    def ours(on: Any) -> float:
        return elapsed_s(lambda: run_on(module, {"xs": xs}, on))

    doing(f"a map of {count:,} tiny calls")
    for _ in range(3):
        ours(pool)
        raw.chunks(xs, count // 8)
    found = {chunk: statistics.median(elapsed_s(partial(raw.chunks, xs, chunk)) for _ in range(3)) for chunk in CHUNKS}
    best = min(found, key=found.__getitem__)
    pairs = [(ours(pool), elapsed_s(lambda: raw.chunks(xs, best))) for _ in range(times)]
    ours_s, theirs_s = (statistics.median(side) for side in zip(*pairs, strict=True))
    one_s = min(elapsed_s(lambda: raw.one_each(xs[:singles])) for _ in range(2))
    doing("the same map on our own pools")
    with gang(root) as ranks:
        gang_s = statistics.median(ours(ranks) for _ in range(times))
    with LocalPool(WORKERS) as local:
        local.wait_ready()
        local_s = statistics.median(ours(local) for _ in range(times))
    one_by_one, by_hand = singles / one_s, count / theirs_s
    return [
        Row(
            f"map of {count:,} tiny calls over Ray, against one task a call", count / ours_s / one_by_one, "times", 20,
            peers=f"ours {count / ours_s:,.0f}/s; Ray, one task a call, {one_by_one:,.0f}/s ({singles:,} of them)",
        ),
        Row(
            "and against the best batches by hand", theirs_s / ours_s, "times", 1,
            peers=f"Ray {by_hand:,.0f}/s in chunks of {best:,}, the best of {len(CHUNKS)} sizes",
            note=f"medians of {times} runs in turns; ours starts each map with calls of unknown cost",
        ),
        Row(
            "the same map over the line of a program's gang", count / gang_s, "/s",
            peers=f"over Ray {count / ours_s:,.0f}/s; one machine's pool {count / local_s:,.0f}/s",
        ),
    ]  # fmt: skip


def calls(pool: RayPool, raw: Raw, small: bool) -> Row:
    doing("round trips")
    count = 50 if small else 500
    with Executor(pool=pool) as executor:
        ours = statistics.median(elapsed_s(lambda: executor.submit(same, 1).result()) for _ in range(count))
        rate = (
            count
            * 4
            / elapsed_s(lambda: [one.result() for one in [executor.submit(same, 1) for _ in range(count * 4)]])
        )
    theirs = statistics.median(elapsed_s(lambda: raw.ray.get(raw.one.remote(1))) for _ in range(count))
    return Row(
        "round trip of one tiny call over Ray", ours * 1e6, "us", better="less",
        peers=f"a task of Ray {theirs * 1e6:,.0f} us",
        note=f"{rate:,.0f} single calls/s when all are submitted at once",
    )  # fmt: skip


def arrays(pool: RayPool, raw: Raw, small: bool) -> Row:
    doing("large arrays")
    array = np.arange((1 if small else 25) * 1_000_000, dtype=np.float32)
    copy = np.empty_like(array)
    copy_s = min(elapsed_s(lambda: np.copyto(copy, array)) for _ in range(3))
    module = four_calls()
    pairs = [
        (elapsed_s(lambda: run_on(module, {"xs": array}, pool)), elapsed_s(lambda: raw.array(array))) for _ in range(6)
    ]
    ours_s, theirs_s = (statistics.median(side) for side in zip(*pairs[1:], strict=True))
    return Row(
        f"{array.nbytes >> 20} MiB array as argument of 4 calls over Ray", ours_s, "s", better="less",
        peers=f"Ray, put once by hand, {theirs_s:.3f} s",
        bound=f"one memcpy {copy_s * 1000:.0f} ms; ours makes two, into memory shared with the driver and into Ray's",
    )  # fmt: skip


def four_calls() -> Module:
    def four(xs: Any) -> Any:
        return tuple(summed(xs, number) for number in range(4))

    return trace(four, "four", list(signature(four, "four").params))


def run(small: bool = False) -> list[Row]:
    """All figures."""
    root = Path(tempfile.mkdtemp(prefix="myc-bench-"))
    try:
        with cluster(root) as raylet:
            raw = Raw(joined(raylet))
            said = {name: value for name, value in raylet.environment.items() if name.startswith("RAY_")}
            with RayPool(lambda: RayOffer(f"127.0.0.1:{raylet.place.port}", said)) as pool:
                begun = time.perf_counter()
                pool.wait_ready()
                ready_s = time.perf_counter() - begun
                rows = [*maps(pool, raw, root, small), calls(pool, raw, small), arrays(pool, raw, small)]
            raw.ray.shutdown()
        return [*rows, Row(f"start of a pool of {WORKERS} workers on a Ray that runs", ready_s, "s", better="less")]
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    alone("Polymer's pool over Ray", run)
