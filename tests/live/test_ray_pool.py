"""A pool on a Ray of two nodes: what travels, what is lost with a worker, a node, a driver or all of Ray."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import psutil
import pytest

import mycelium as my
from mycelium.base.errors import Refused, Unavailable
from mycelium.base.units import MIB
from mycelium.engine.ray.raylet import Raylet, RayletPlace, free_port, keep_token
from mycelium.polymer.compiler.compile import optimise
from mycelium.polymer.executor import Executor
from mycelium.polymer.here import execute
from mycelium.polymer.runtime.dataflow import run
from mycelium.polymer.runtime.interpreter import interpret
from mycelium.pools.ray.pool import RayOffer, RayPool
from tests.live.site import wait_for
from tests.property.polymer_programs import random_inputs, random_program

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = pytest.mark.timeout(300)

LONG = os.environ.get("MYC_TEST_LONG") == "1"


class Cluster:
    """Ray on this machine, as two nodes: `first` with the GCS, and `second`."""

    def __init__(self, root: Path) -> None:
        port = free_port("127.0.0.1")
        self.first = Raylet(RayletPlace(root / "first", "first", port=port, cpus=1, store_bytes=400 * MIB))
        self.second = Raylet(
            RayletPlace(root / "second", "second", head=f"127.0.0.1:{port}", cpus=1, store_bytes=400 * MIB)
        )
        self.first.start()
        keep_token(self.second.directory, keep_token(self.first.directory))
        self.second.start()

    def offer(self) -> RayOffer:
        said = {name: value for name, value in self.first.environment.items() if name.startswith("RAY_")}
        return RayOffer(f"127.0.0.1:{self.first.place.port}", said)

    def end(self) -> None:
        self.second.kill()
        self.first.kill()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("ray"))
    try:
        yield cluster
    finally:
        cluster.end()


@pytest.fixture(scope="module")
def shared_pool(cluster: Cluster) -> Iterator[RayPool]:
    with RayPool(cluster.offer, nodes={"first": 1, "second": 1}) as pool:
        pool.wait_ready()
        yield pool


@pytest.fixture
def pool(cluster: Cluster, shared_pool: RayPool) -> RayPool:
    """The shared pool with both of its workers, whatever the test before did."""
    if cluster.second.living() is None:
        cluster.second.start()
    wait_for(lambda: shared_pool.slots == 2, "both nodes")
    shared_pool.wait_ready()
    return shared_pool


@my.kernel
def slow_square(x: int) -> int:
    time.sleep(0.01)
    return x * x


@my.kernel
def add(a: int, b: int) -> int:
    return a + b


@my.program
def sum_of_squares(xs: list[int]) -> int:
    return my.reduce(add, my.map(slow_square, xs), associative=True)


@my.kernel
def who(x: int) -> int:
    time.sleep(0.005)
    return os.getpid()


@my.program
def everybody(xs: list[int]) -> list[int]:
    return my.map(who, xs)


@my.kernel
def make(size: int) -> Any:
    return numpy.arange(size, dtype=numpy.float64)


@my.kernel
def total(xs: Any, scale: float) -> Any:
    assert not xs.flags.writeable
    return float(xs.sum() * scale)


@my.program
def totals(size: int, scales: list[float]) -> list[float]:
    return my.map(total, my.ref(make(size)), scales)


@my.kernel
def die_at_13(marker: str, x: int) -> int:
    if x == 13 and not os.path.exists(marker):  # noqa: PTH110
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def strike(pool: RayPool, deed: Any, count: int = 300) -> None:
    """A program that takes some seconds, in whose middle the deed is done, gives what it must give."""
    done = False

    def watch(running: Any) -> None:
        nonlocal done
        if not done and running.progress()[0] > count // 10:
            done = True
            deed()

    numbers = list(range(count))
    assert run(sum_of_squares.module, {"xs": numbers}, pool, watch=watch) == sum(x * x for x in numbers)
    assert done


def workers(pool: RayPool) -> set[int]:
    return set(run(everybody.module, {"xs": list(range(60))}, pool))


def test_every_node_takes_part_and_calls_keep_their_order(pool: RayPool) -> None:
    wait_for(lambda: len(workers(pool)) == 2, "both workers to take part")
    numbers = list(range(30_000))
    with Executor(pool=pool) as executor:
        assert list(executor.map(lambda x: x + 1, numbers)) == [x + 1 for x in numbers]


@pytest.mark.parametrize("seed", range(3))
def test_a_random_program_gives_what_the_interpreter_gives(pool: RayPool, seed: int) -> None:
    module, inputs = random_program(seed), random_inputs(seed)
    assert run(optimise(module), inputs, pool) == interpret(module, inputs)


def test_the_verbs_run_on_the_pool_that_on_says(cluster: Cluster) -> None:
    with my.on(RayPool(cluster.offer, nodes={"second": 1})) as pool:
        assert pool.slots in (0, 1)
        pids = set(my.map(who, range(5)))
        with my.Executor() as executor:
            pids.add(executor.submit(os.getpid).result())
    assert len(pids) == 1
    assert os.getpid() not in pids
    with my.Executor(1) as executor:
        assert executor.submit(pow, 2, 3).result() == 8


def test_large_arrays_go_between_nodes_and_cannot_be_changed_there(pool: RayPool) -> None:
    size, scales = 4_000_000, [float(x) for x in range(40)]
    sums = numpy.arange(size, dtype=numpy.float64).sum()
    assert execute(totals.module, {"size": size, "scales": scales}, on=pool) == [float(sums * x) for x in scales]


def test_an_array_that_is_changed_between_calls_is_sent_as_it_is_then(pool: RayPool) -> None:
    array = numpy.ones(1_000_000)
    with Executor(pool=pool) as executor:
        for value in (1.0, 2.0, 3.0):
            array[:] = value
            futures = [executor.submit(numpy.sum, array) for _ in range(3)]
            assert [float(future.result()) for future in futures] == [value * 1e6] * 3


def test_a_failed_call_names_kernel_call_and_worker(pool: RayPool) -> None:
    with Executor(pool=pool) as executor, pytest.raises(ZeroDivisionError) as raised:
        list(executor.map(lambda x: 1 / (50 - x), range(100)))
    (note,) = raised.value.__notes__
    assert "call 50, input " in note
    assert " on " in note
    assert "1 / (50 - x)" in str(raised.value.__cause__)


def test_results_and_calls_that_cannot_be_carried_fail_alone(pool: RayPool) -> None:
    import threading

    with Executor(pool=pool) as executor:
        bad = [executor.submit(threading.Lock), executor.submit(len, threading.Lock())]  # type: ignore[arg-type]
        assert executor.submit(len, "abc").result() == 3
        for future in bad:
            with pytest.raises(TypeError):
                future.result()


def test_a_call_that_kills_its_worker_once_is_done_by_another(pool: RayPool, tmp_path: Path) -> None:
    assert run_die(pool, str(tmp_path / "died")) == list(range(40))
    assert (tmp_path / "died").exists()


def run_die(pool: RayPool, marker: str) -> list[int]:
    @my.program
    def program(marker: str, xs: list[int]) -> list[int]:
        return my.map(die_at_13, my.ref(marker), xs)

    return run(program.module, {"marker": marker, "xs": list(range(40))}, pool)


def test_a_call_that_always_kills_its_worker_fails_and_the_pool_goes_on(pool: RayPool) -> None:
    with Executor(pool=pool) as executor:
        with pytest.raises(Exception, match="workers died while they ran this call"):
            executor.submit(lambda: os.kill(os.getpid(), signal.SIGKILL)).result()
        assert executor.submit(pow, 2, 4).result() == 16


def test_a_worker_that_is_killed_loses_only_its_calls(pool: RayPool) -> None:
    victim = min(workers(pool))
    strike(pool, lambda: os.kill(victim, signal.SIGKILL))
    wait_for(lambda: len(workers(pool)) == 2, "another worker")


def test_a_node_that_dies_loses_only_its_calls_and_one_that_comes_takes_part(cluster: Cluster, pool: RayPool) -> None:
    strike(pool, cluster.second.kill)
    assert run(sum_of_squares.module, {"xs": [1, 2, 3]}, pool) == 14
    cluster.second.start()
    wait_for(lambda: len(workers(pool)) == 2, "the node to take part")


def test_a_driver_that_is_killed_is_started_again(pool: RayPool) -> None:
    strike(pool, lambda: pool.driver_pid and os.kill(pool.driver_pid, signal.SIGKILL))


def test_a_run_that_is_cancelled_frees_its_workers(pool: RayPool) -> None:
    with Executor(pool=pool) as executor:
        results = executor.map(time.sleep, [60.0, 60.0], timeout=0.5)
        with pytest.raises(TimeoutError):
            list(results)
        begun = time.monotonic()
        assert executor.submit(pow, 2, 2).result() == 4
        assert time.monotonic() - begun < 30


def test_nothing_is_left_of_a_closed_pool(cluster: Cluster) -> None:
    with RayPool(cluster.offer, nodes={"first": 1, "second": 1}) as pool:
        pool.wait_ready()
        pids = workers(pool) | {pool.driver_pid}
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids), "its processes to end")


def test_an_address_that_is_none_is_refused_and_a_ray_that_is_not_there_is_unavailable() -> None:
    for wrong in ("", "ray://127.0.0.1:1"):
        with pytest.raises(Refused):
            RayPool(wrong)
    begun = time.monotonic()
    with (
        my.on(RayPool(f"127.0.0.1:{free_port('127.0.0.1')}", patience_s=2)),
        pytest.raises(Unavailable, match="no worker of Ray"),
    ):
        my.map(abs, [1, 2])
    assert time.monotonic() - begun < 60


def test_a_run_ends_unavailable_when_all_of_ray_is_gone_for_too_long(cluster: Cluster) -> None:
    """From here on the cluster is another one."""
    with RayPool(cluster.offer, nodes={"first": 1}, patience_s=2) as pool:
        pool.wait_ready()
        with pytest.raises(Unavailable, match="no worker of Ray for 2 s"):
            strike(pool, cluster.end, count=3000)


def test_workers_of_this_machine_do_not_wait_for_ray() -> None:
    nowhere = f"127.0.0.1:{free_port('127.0.0.1')}"
    with RayPool(nowhere, nodes={"first": 1}, here=1, patience_s=1) as pool:
        assert run(sum_of_squares.module, {"xs": list(range(150))}, pool) == sum(x * x for x in range(150))


@pytest.mark.skipif(not LONG, reason="MYC_TEST_LONG=1 runs it")
def test_a_ray_that_is_built_again_is_found(cluster: Cluster) -> None:
    with RayPool(cluster.offer, nodes={"first": 1}) as pool:
        cluster.first.start()
        assert run(sum_of_squares.module, {"xs": [1, 2, 3]}, pool) == 14
        strike(pool, lambda: (cluster.first.kill(), cluster.first.start()))
