"""The local pool: real worker processes, real deaths."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mycelium
from mycelium.base.errors import Refused, Unavailable
from mycelium.base.limits import POOL_DEATHS_MAX
from mycelium.polymer import verbs as my
from mycelium.polymer.define import program
from mycelium.polymer.executor import Executor
from mycelium.polymer.function import kernel
from mycelium.polymer.here import execute
from mycelium.polymer.runtime.dataflow import run
from mycelium.pools.local.pool import LocalPool


@pytest.fixture(scope="module")
def pool() -> Iterator[LocalPool]:
    with LocalPool(2) as made:
        yield made


@pytest.fixture
def executor(pool: LocalPool) -> Executor:
    return Executor(pool=pool)


@dataclass
class Point:
    x: int


@kernel
def double(x: int) -> int:
    return 2 * x


@kernel
def add(a: int, b: int) -> int:
    return a + b


@kernel
def die_once(marker: str, x: int) -> int:
    """Kills its own worker the first time that anybody asks for 13."""
    if x == 13 and not os.path.exists(marker):  # noqa: PTH110
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return x


@program
def total(xs: list[int]) -> int:
    return my.reduce(add, my.map(double, xs), associative=True)


def test_a_map_of_many_calls_keeps_their_order(pool: LocalPool) -> None:
    assert execute(total.module, {"xs": list(range(50_000))}, on=pool) == 50_000 * 49_999


def test_futures_of_lambdas_closures_and_methods(executor: Executor) -> None:
    seven = 7
    assert executor.submit(lambda x: x + seven, 1).result() == 8
    assert executor.submit(int, "12", base=3).result() == 5
    assert executor.submit("abc".upper).result() == "ABC"
    assert executor.submit(lambda point: Point(point.x + 1), Point(1)).result() == Point(2)
    assert list(executor.map(pow, [2, 3], [3, 2])) == [8, 9]


def test_a_failed_call_raises_here_with_the_remote_traceback(executor: Executor) -> None:
    def broken(x: int) -> float:
        return 1 / x

    future = executor.submit(broken, 0)
    with pytest.raises(ZeroDivisionError) as raised:
        future.result()
    assert "return 1 / x" in str(raised.value.__cause__)
    assert "kernel broken, input " in raised.value.__notes__[0]


def test_the_failing_call_with_the_lowest_index_is_the_one_that_is_told(pool: LocalPool) -> None:
    @kernel
    def picky(x: int) -> int:
        if x % 1000 == 999:
            raise ValueError(f"no {x}")
        return x

    @program
    def picked(xs: list[int]) -> list[int]:
        return my.map(picky, xs)

    for _ in range(5):
        with pytest.raises(ValueError, match="no 999") as raised:
            execute(picked.module, {"xs": list(range(20_000))}, on=pool)
        assert "kernel picky, call 999, input " in raised.value.__notes__[0]


def test_errors_and_results_that_cannot_be_carried_are_told(executor: Executor) -> None:
    class Odd(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(a)

    def raise_odd() -> None:
        raise Odd(1, 2)

    with pytest.raises(Exception, match="Odd: 1"):
        executor.submit(raise_odd).result()
    with pytest.raises(TypeError, match="cannot pickle"):
        executor.submit(threading.Lock).result()
    with pytest.raises(TypeError, match="cannot pickle"):
        executor.submit(repr, threading.Lock()).result()
    assert executor.submit(abs, -1).result() == 1


def test_arrays_arrive_without_a_copy_and_cannot_be_written(executor: Executor) -> None:
    array = np.arange(1_000_000, dtype=np.float64)

    def look(x: np.ndarray) -> tuple[bool, bool, float]:
        return x.flags.writeable, x.flags.owndata, float(x.sum())

    assert executor.submit(look, array).result() == (False, False, array.sum())
    made = executor.submit(np.ones, 1_000_000).result()
    assert not made.flags.writeable
    assert not made.flags.owndata
    assert executor.submit(np.sum, made[10:]).result() == 999_990
    assert executor.submit(np.sum, array[::2]).result() == array[::2].sum()


def test_large_values_that_are_no_arrays_travel_too(executor: Executor) -> None:
    words = [f"word {number}" for number in range(100_000)]
    assert executor.submit(sorted, words).result() == sorted(words)
    assert len(executor.submit(bytes, 3_000_000).result()) == 3_000_000


def test_many_arrays_in_one_message(executor: Executor) -> None:
    arrays = [np.full(5_000, number) for number in range(3_000)]
    assert executor.submit(lambda xs: [int(x[0]) for x in xs], arrays).result() == list(range(3_000))


def test_a_worker_that_dies_loses_only_its_calls(pool: LocalPool, tmp_path: Any) -> None:
    @program
    def risky(marker: str, xs: list[int]) -> list[int]:
        return my.map(die_once, my.ref(marker), xs)

    result = execute(risky.module, {"marker": str(tmp_path / "died"), "xs": list(range(100))}, on=pool)
    assert result == list(range(100))


def test_a_call_that_kills_every_worker_is_refused_in_the_end(pool: LocalPool) -> None:
    @kernel
    def deadly(x: int) -> int:
        if x == 5:
            os._exit(9)
        return x

    @program
    def doomed(xs: list[int]) -> list[int]:
        return my.map(deadly, xs)

    with pytest.raises(Unavailable, match=f"kernel deadly: {POOL_DEATHS_MAX} workers died") as raised:
        execute(doomed.module, {"xs": list(range(40))}, on=pool)
    assert "call 5" in raised.value.__notes__[0]
    assert execute(total.module, {"xs": [1, 2]}, on=pool) == 6


def test_workers_killed_from_outside_change_nothing(pool: LocalPool) -> None:
    @kernel
    def slow(x: int) -> int:
        time.sleep(0.002)
        return x + 1

    @program
    def slowly(xs: list[int]) -> list[int]:
        return my.map(slow, xs)

    stop = threading.Event()

    def kill_now_and_then() -> None:
        while not stop.wait(0.1):
            seats = pool.workers.seats()
            if all(seat.ready for seat in seats):
                os.kill(seats[0].process.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_now_and_then)
    killer.start()
    try:
        assert execute(slowly.module, {"xs": list(range(300))}, on=pool) == list(range(1, 301))
    finally:
        stop.set()
        killer.join()


def test_progress_counts_calls_and_nothing_else(pool: LocalPool) -> None:
    @kernel
    def slow(x: int) -> int:
        time.sleep(0.02)
        return x

    @program
    def twice(xs: list[int]) -> tuple[list[int], list[int]]:
        first = my.map(slow, xs)
        return first, my.map(slow, first)

    seen: list[tuple[int, int]] = []
    run(twice.module, {"xs": list(range(25))}, pool, watch=lambda running: seen.append(running.progress()))
    assert {total for _, total in seen} <= {26, 50}  # the second map counts as one call until it begins
    assert seen == sorted(seen)
    assert all(done <= total for done, total in seen)
    assert len(seen) > 2


def test_the_unchosen_side_of_a_select_cannot_fail_a_program(pool: LocalPool) -> None:
    @kernel
    def broken(x: int) -> int:
        raise ValueError("never chosen")

    @kernel
    def slow_truth(x: int) -> bool:
        time.sleep(0.05)
        return True

    @program
    def chosen(x: int) -> int:
        return my.select(slow_truth(x), double(x), broken(x))

    assert execute(chosen.module, {"x": 4}, on=pool) == 8


def test_a_loop_over_a_program_runs_on_the_pool(pool: LocalPool) -> None:
    @kernel
    def small(xs: list[int]) -> bool:
        return xs[0] < 1000

    @program
    def body(xs: list[int]) -> list[int]:
        return my.map(double, xs)

    @program
    def looped(xs: list[int]) -> list[int]:
        return my.loop(small, body, xs)

    assert execute(looped.module, {"xs": [1, 2, 3]}, on=pool) == [1024, 2048, 3072]


def test_a_pool_ends_its_workers_and_refuses_more() -> None:
    made = LocalPool(1)
    with Executor(pool=made) as executor:
        pid = executor.submit(os.getpid).result()
        waiting = executor.submit(time.sleep, 60)
        made.close()
    assert waiting.cancelled() or isinstance(waiting.exception(), concurrent.futures.BrokenExecutor | Unavailable)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(Unavailable, match="closed"):
        execute(total.module, {"xs": [1]}, on=made)


def test_a_map_inside_a_kernel_runs_where_the_kernel_runs(executor: Executor) -> None:
    def outer(x: int) -> list[int]:
        import mycelium as inside

        return [os.getpid(), *inside.map(lambda y: os.getpid(), [x])]

    here, there = executor.submit(outer, 1).result()
    assert here == there != os.getpid()


def test_threads_may_share_a_pool(pool: LocalPool) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        sums = threads.map(lambda n: execute(total.module, {"xs": list(range(n))}, on=pool), range(1, 60))
    assert list(sums) == [n * (n - 1) for n in range(1, 60)]


def test_importing_the_package_imports_nothing_large() -> None:
    large = ("jax", "numpy", "msgspec", "typing", "asyncio")
    code = f"import sys, mycelium; print(*(name for name in {large} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(Path(mycelium.__file__).parents[1])})  # fmt: skip
    assert done.stdout.strip() == "", done.stderr


def test_a_pool_of_no_workers_is_refused() -> None:
    with pytest.raises(Refused, match="a pool of 0 workers"):
        LocalPool(0)


def test_results_of_a_map_come_while_others_still_run(executor: Executor) -> None:
    def wait(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    results = executor.map(wait, [0.0, 0.0, 30.0])
    assert next(results) == 0.0
    results.close()  # type: ignore[attr-defined]
    with pytest.raises(TimeoutError):
        list(executor.map(wait, [30.0], timeout=0.1))
