"""The idiomatic programs of Ray, Dask and joblib for what bench.polymer measures. Run by bench.peers.polymer."""

# The peers are installed for a measurement, and otherwise not there.
# pyright: reportMissingImports=false
from __future__ import annotations

import json
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.polymer_graphs import PATTERNS, Graph, busy, pattern, random_graph

WORKERS = len(os.sched_getaffinity(0))


def same(x: Any) -> Any:
    return x


def elapsed_s(deed: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    deed()
    return time.perf_counter() - begun


def figures(small: bool, call: Callable[[Any], Any], many: Callable[[int], Any], graph: Callable[[Graph, int], Any]
            ) -> dict[str, float]:  # fmt: skip
    """Round trips, many calls, graphs."""
    for _ in range(20):
        call(1)
    count = 50 if small else 300
    array = np.arange(1_000_000 if small else 25_000_000, dtype=np.float32)
    found = {
        "round_trip_us": statistics.median(elapsed_s(lambda: call(1)) for _ in range(count)) * 1e6,
        "calls_per_s": 10 * count / elapsed_s(lambda: many(10 * count)),
        "array_in_s": min(elapsed_s(lambda: call(array)) for _ in range(2)),
    }

    def efficiency(shape: Graph, grain_us: int) -> float:
        return len(shape) * grain_us / 1e6 / WORKERS / elapsed_s(lambda: graph(shape, grain_us))

    efficiency(random_graph(50), 1000)
    found["graph_efficiency"] = efficiency(random_graph(200 if small else 2_000), 1000)
    for name in PATTERNS[:2] if small else PATTERNS:
        low, high = 100, 200_000
        shape = pattern(name, 4 * WORKERS, 8)
        while high > low * 1.4:
            middle = int((low * high) ** 0.5)
            low, high = (low, middle) if efficiency(shape, middle) >= 0.5 else (middle + 1, high)
        found[f"metg_{name}_us"] = high
    return found


def length(x: Any) -> int:
    return len(np.atleast_1d(x))


def on_ray(small: bool) -> dict[str, float]:
    import ray

    begun = time.perf_counter()
    ray.init(num_cpus=WORKERS, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    remote, work = ray.remote(length), ray.remote(busy)
    ray.get(remote.remote(1))
    start_s = time.perf_counter() - begun

    def graph(shape: Graph, grain_us: int) -> None:
        refs: list[Any] = []
        for reads in shape:
            refs.append(work.remote(grain_us, *[refs[read] for read in reads]))
        ray.get(refs)

    found = figures(
        small,
        lambda x: ray.get(remote.remote(x)),
        lambda count: ray.get([remote.remote(1) for _ in range(count)]),
        graph,
    )
    ray.shutdown()
    return {**found, "start_s": start_s}


def on_dask(small: bool) -> dict[str, float]:
    from distributed import Client, LocalCluster

    begun = time.perf_counter()
    cluster = LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, silence_logs=50)
    client = Client(cluster)
    client.submit(same, 1, pure=False).result()
    start_s = time.perf_counter() - begun

    def graph(shape: Graph, grain_us: int) -> None:
        futures: list[Any] = []
        for reads in shape:
            futures.append(client.submit(busy, grain_us, *[futures[read] for read in reads], pure=False))
        client.gather(futures)

    found = figures(
        small,
        lambda x: client.submit(length, x, pure=False).result(),
        lambda count: client.gather(client.map(same, range(count), pure=False)),
        graph,
    )
    client.close()
    cluster.close()
    return {**found, "start_s": start_s}


def on_joblib(small: bool) -> dict[str, float]:
    from joblib import Parallel, delayed

    count = 500 if small else 3_000
    begun = time.perf_counter()
    with Parallel(n_jobs=WORKERS, batch_size=1) as parallel:
        parallel([delayed(same)(1)])
        start_s = time.perf_counter() - begun
        one = elapsed_s(lambda: parallel(delayed(same)(x) for x in range(count)))
        trips = statistics.median(elapsed_s(lambda: parallel([delayed(same)(1)])) for _ in range(30))
    return {"start_s": start_s, "calls_per_s": count / one, "round_trip_us": trips * 1e6}


if __name__ == "__main__":
    measured = {"Ray": on_ray, "Dask": on_dask, "joblib": on_joblib}[sys.argv[1]](sys.argv[2] == "small")
    print(json.dumps(measured))
