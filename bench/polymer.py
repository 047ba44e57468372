"""What a call costs on Polymer's pool, beside the idiomatic program of its peers.

`python -m bench.polymer [--peers]`. ProcessPoolExecutor is always measured, joblib, Ray and Dask with `--peers`.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from bench.alone import alone, doing
from bench.peers.polymer import Peers, peers
from bench.polymer_graphs import PATTERNS, Graph, busy, pattern, random_graph
from bench.row import Row
from mycelium.polymer.executor import Executor
from mycelium.polymer.function import KernelFunction, kernel
from mycelium.polymer.program.graph import Module
from mycelium.polymer.program.trace import trace
from mycelium.polymer.runtime.dataflow import run as run_on
from mycelium.polymer.schema.types import Param, Signature, Tensor
from mycelium.pools.local.pool import LocalPool

WORKERS = len(os.sched_getaffinity(0))
CHUNKS = (100, 1_000, 5_000, 20_000)  # by hand, for those who need them

busy_kernel = kernel(busy)


def same(x: int) -> int:
    return x


def module_of(graph: Graph, grain_us: int) -> Module:
    """The graph as a program of one output that reads every task that nobody else reads."""

    def build() -> Any:
        values: list[Any] = []
        for reads in graph:
            values.append(busy_kernel(grain_us, *[values[read] for read in reads]))
        read_by = {read for reads in graph for read in reads}
        return tuple(value for at, value in enumerate(values) if at not in read_by)

    return trace(build, "graph", [])


def elapsed_s(deed: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    deed()
    return time.perf_counter() - begun


def efficiency(graph: Graph, grain_us: int, pool: LocalPool) -> float:
    """The share of the ideal: all cores busy with tasks from start to end."""
    module = module_of(graph, grain_us)
    return len(graph) * grain_us / 1e6 / WORKERS / elapsed_s(lambda: run_on(module, {}, pool))


def bare_efficiency(count: int, grain_us: int) -> float:
    """The bound: as many bare processes as cores, each with its share of the tasks in a loop."""
    code = (
        "import sys, time; from bench.polymer_graphs import busy; sys.stdin.readline(); t = time.perf_counter(); "
        f"[busy({grain_us}) for _ in range({count})]; print(time.perf_counter() - t)"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(WORKERS)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    took = [float(child.communicate()[0]) for child in children]
    return count * grain_us / 1e6 / max(took)


def metg_us(graph: Graph, pool: LocalPool) -> float:
    """The smallest task at which half of the cores' time still goes into tasks."""
    low, high = 1, 20_000
    while high > low * 1.15:
        middle = int((low * high) ** 0.5)
        good = max(efficiency(graph, middle, pool) for _ in range(2)) >= 0.5
        low, high = (low, middle) if good else (middle + 1, high)
    return high


def round_trip_us(count: int, executor: Any) -> float:
    took = []
    for number in range(count):
        begun = time.perf_counter()
        executor.submit(same, number).result()
        took.append(time.perf_counter() - begun)
    return statistics.median(took) * 1e6


def _drain(executor: ProcessPoolExecutor, xs: list[int], chunk: int) -> None:
    list(executor.map(same, xs, chunksize=chunk))


def pipe_us(count: int) -> float:
    """The bound: one byte to another process and back."""
    code = "import os\nwhile (b := os.read(0, 1)): os.write(1, b)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        to, back = child.stdin.fileno(), child.stdout.fileno()
        took = []
        for _ in range(count):
            begun = time.perf_counter()
            os.write(to, b"x")
            os.read(back, 1)
            took.append(time.perf_counter() - begun)
        child.stdin.close()
    return statistics.median(took[count // 10 :]) * 1e6


def calls(small: bool, found: Peers) -> list[Row]:
    count, many = (200, 20_000) if small else (3_000, 200_000)
    xs = list(range(many))
    doing("round trips and maps on Polymer")
    with Executor(WORKERS) as executor:
        executor.pool.wait_ready()
        ours_us = round_trip_us(count, executor)
        list(executor.map(same, xs[:1000]))
        map_s = min(elapsed_s(lambda: list(executor.map(same, xs))) for _ in range(3))
        single_s = elapsed_s(
            lambda: [future.result() for future in [executor.submit(same, x) for x in xs[: many // 20]]]
        )
    doing("round trips and maps on ProcessPoolExecutor")
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("fork")) as executor:
        theirs_us = round_trip_us(count, executor)
        by_chunk = {chunk: elapsed_s(partial(_drain, executor, xs, chunk)) for chunk in CHUNKS}
        one_s = elapsed_s(lambda: list(executor.map(same, xs[: many // 20])))
    best = min(by_chunk, key=by_chunk.__getitem__)
    return [
        Row(
            "round trip of one tiny call", ours_us, "us", 150, "less",
            peers=f"ProcessPoolExecutor {theirs_us:.0f} us; {found.said('round_trip_us', '{:.0f} us')}",
            bound=f"a byte through a pipe and back: {pipe_us(count):.0f} us",
        ),
        Row(
            f"map of {many:,} tiny calls", many / map_s, "/s", 0.8 * many / by_chunk[best],
            peers=f"ProcessPoolExecutor {many / by_chunk[best]:,.0f}/s in chunks of {best:,} found by hand",
            note="the goal is 0.8 of ProcessPoolExecutor's best; no chunk size is given to ours",
        ),
        Row(
            "that map, against one call each on the others", (many / map_s) / (many / 20 / one_s), "times", 50,
            peers=f"ProcessPoolExecutor {many / 20 / one_s:,.0f}/s; {found.said('calls_per_s', '{:,.0f}/s')}",
        ),
        Row("single calls, all submitted at once", many / 20 / single_s, "/s"),
    ]  # fmt: skip


def starts(small: bool, found: Peers) -> list[Row]:
    doing("starting pools")

    def start(warm: Callable[[Any], Any]) -> float:
        begun = time.perf_counter()
        with LocalPool(2) as pool:
            pool.wait_ready()
            warm(Executor(pool=pool))
            return time.perf_counter() - begun

    rows = [
        Row(
            "start of a pool of two workers, to its first result",
            statistics.median(start(lambda executor: executor.submit(same, 1).result()) for _ in range(5)),
            "s", 0.25, "less", peers=found.said("start_s", "{:.2f} s"),
        )
    ]  # fmt: skip
    if installed("jax"):
        rows.append(
            Row("and with jax and its devices in a worker", start(lambda executor: executor.submit(jax_here).result()),
                "s", 2, "less", bound=f"import jax in a bare process: {bare_jax_s():.2f} s")
        )  # fmt: skip
    return rows


def jax_here() -> int:
    import jax

    return len(jax.devices())


def bare_jax_s() -> float:
    code = "import time; t = time.perf_counter(); import jax; jax.devices(); print(time.perf_counter() - t)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def installed(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None


def arrays(small: bool, found: Peers) -> list[Row]:
    doing("large arrays")
    size = 1_000_000 if small else 25_000_000
    array = np.arange(size, dtype=np.float32)
    copy = np.empty_like(array)
    copy_s = min(elapsed_s(lambda: np.copyto(copy, array)) for _ in range(3))
    with Executor(2) as executor:
        executor.pool.wait_ready()
        executor.submit(len, array[:10]).result()
        into_s = min(elapsed_s(lambda: executor.submit(len, array).result()) for _ in range(3))
        made = executor.submit(np.ones, size, np.float32)
        held = made.result()
        again_s = min(elapsed_s(lambda: executor.submit(len, held).result()) for _ in range(3))
        get_s = _read_s(size)
    mib = array.nbytes >> 20
    return [
        Row(f"{mib} MiB array to a worker", into_s, "s", bound=f"one memcpy: {copy_s * 1000:.0f} ms",
            note="one copy into fresh shared memory, whose pages the kernel must find first",
            peers=found.said("array_in_s", "{:.3f} s")),
        Row("the same array, once it is shared", again_s, "s"),
        Row(f"reading a result array of {mib} MiB", get_s, "s", 0.001, "less", note="mapped, not copied"),
    ]  # fmt: skip


def _read_s(size: int) -> float:
    """From the arrival of the packet to the array: what the caller's side pays."""
    import socket

    from mycelium.pools.local import wire

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        took = []
        for _ in range(5):
            wire.encode(wire.RESULT, np.ones(size, np.float32)).send(theirs)
            begun = time.perf_counter()
            message = wire.Inbox(ours).read()
            assert message is not None
            array = message.load()
            took.append(time.perf_counter() - begun)
            assert array[-1] == 1
            del array, message  # giving the memory back is not part of reading the next one
    return statistics.median(took)


def chain(small: bool) -> list[Row]:
    """Six elementwise kernels one after the other, fused into one module, against numpy's six passes."""
    if not installed("jax"):
        return []
    doing("a chain of six elementwise kernels")
    size = 1_000_000 if small else 50_000_000
    x = np.random.default_rng(1).random(size, dtype=np.float32)
    with Executor(1) as executor:
        fused_s, numpy_s, copy_s = executor.submit(chain_here, x).result()
    return [
        Row(
            f"six elementwise kernels over {size:,} float32", numpy_s / fused_s, "times numpy", 2.5,
            peers=f"numpy {numpy_s:.3f} s, ours {fused_s:.3f} s, each in a worker",
            bound=f"memcpy {copy_s:.3f} s: {copy_s / fused_s:.0%} of its bandwidth",
            note="the bits are those of six separate calls",
        )
    ]  # fmt: skip


def chain_here(x: np.ndarray) -> tuple[float, float, float]:
    """Seconds of the fused chain, of numpy's and of one copy, in this process."""
    from mycelium.polymer.compiler.compile import optimise
    from mycelium.polymer.forms.resolve import resolve

    vector = Tensor("float32", ("n",))
    made = [
        KernelFunction(body, name=name, forms=("xla",), cache=False, retries=0, extra=()) for name, body in _SIX.items()
    ]
    for held in made:
        held.kernel = replace(held.kernel, signature=Signature((Param("x", vector),), vector))

    def build(value: Any) -> Any:
        for held in made:
            value = held(value)
        return value

    module = optimise(trace(build, "chain", [Param("x", vector)]))
    (fused,) = module.kernels.values()
    run_fused = resolve(fused)

    def run_numpy(value: Any) -> Any:
        for body in _SIX.values():
            value = body(value)
        return value

    np.testing.assert_allclose(run_fused(x[:1000]), run_numpy(x[:1000]), rtol=1e-5)
    run_fused(x)
    copy = np.empty_like(x)
    deeds = (lambda: run_fused(x), lambda: run_numpy(x), lambda: np.copyto(copy, x))
    fused_s, numpy_s, copy_s = (min(elapsed_s(deed) for _ in range(4)) for deed in deeds)
    return fused_s, numpy_s, copy_s


_SIX: dict[str, Callable[[Any], Any]] = {
    "scale": lambda x: x * np.float32(1.5),
    "shift": lambda x: x + np.float32(0.25),
    "square": lambda x: x * x,
    "flip": lambda x: np.float32(1.0) - x,
    "half": lambda x: x * np.float32(0.5),
    "raise_": lambda x: x + np.float32(2.0),
}


def graphs(small: bool, found: Peers) -> list[Row]:
    size = 300 if small else 10_000
    rows = []
    with LocalPool(WORKERS) as pool:
        pool.wait_ready()
        bare = bare_efficiency(size // WORKERS // 4, 1000)
        doing(f"a random graph of {size:,} operations of 1 ms")
        efficiency(random_graph(50), 1000, pool)
        rows.append(
            Row(
                f"random graph of {size:,} operations of 1 ms",
                efficiency(random_graph(size), 1000, pool),
                "of ideal",
                0.9,
                peers=found.said("graph_efficiency", "{:.2f}"),
                bound=f"as many bare processes at the same time: {bare:.2f}",
            )
        )
        for name in PATTERNS[:2] if small else PATTERNS:
            doing(f"METG(50 %) of {name}")
            graph = pattern(name, 4 * WORKERS, 10 if small else 50)
            said = found.said(f"metg_{name}_us", "{:,.0f} us")
            rows.append(Row(f"METG(50 %) of {name}", metg_us(graph, pool), "us", better="less", peers=said))
    return rows


def import_row() -> Row:
    doing("importing")
    took = []
    for _ in range(5):
        code = "import time; t = time.perf_counter(); import mycelium; print(time.perf_counter() - t)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        took.append(float(done.stdout))
    return Row("import mycelium", statistics.median(took), "s", 0.01, "less")


def run(small: bool = False) -> list[Row]:
    """All figures."""
    with tempfile.TemporaryDirectory(prefix="myc-peers-") as folder:
        found = peers(small, Path(folder))
    return [
        *calls(small, found),
        *starts(small, found),
        *arrays(small, found),
        *chain(small),
        *graphs(small, found),
        import_row(),
    ]


if __name__ == "__main__":
    alone("Polymer", run)
