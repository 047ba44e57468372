"""What a pool survives: killed workers, stragglers, wrong guesses, a killed or interrupted caller.

`POLYMER_KILLS=200` in the environment makes that many runs under random kills; by default there are few.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mycelium.polymer import verbs as my
from mycelium.polymer.compiler.compile import optimise
from mycelium.polymer.define import program
from mycelium.polymer.function import kernel
from mycelium.polymer.runtime.dataflow import run
from mycelium.polymer.runtime.interpreter import interpret
from mycelium.polymer.runtime.memo import MemoryMemo
from mycelium.pools.local.pool import LocalPool
from tests.property.polymer_programs import random_inputs, random_program

KILLS = int(os.environ.get("POLYMER_KILLS", "6"))


@pytest.fixture
def pool() -> Iterator[LocalPool]:
    with LocalPool(2) as made:
        made.wait_ready()
        yield made


@kernel
def slow_triple(x: int) -> int:
    time.sleep(0.001)
    return 3 * x


@kernel
def add(a: int, b: int) -> int:
    return a + b


@program
def slow_total(xs: list[int]) -> int:
    return my.reduce(add, my.map(slow_triple, xs), associative=True)


def test_random_kills_change_no_result_and_leave_nothing(pool: LocalPool) -> None:
    chance = random.Random(7)

    def kill_one() -> None:
        seats = [seat for seat in pool.workers.seats() if seat.ready]
        if seats:
            os.kill(chance.choice(seats).process.pid, signal.SIGKILL)

    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    others = {child.pid for child in psutil.Process().children()} - {seat.process.pid for seat in pool.workers.seats()}
    for seed in range(KILLS):
        killers = [threading.Timer(chance.uniform(0.0, 0.2), kill_one) for _ in range(2)]
        for killer in killers:
            killer.start()
        module, inputs = random_program(seed), random_inputs(seed)
        assert run(optimise(module), inputs, pool) == interpret(module, inputs)
        assert run(slow_total.module, {"xs": list(range(100))}, pool) == 3 * sum(range(100))
        for killer in killers:
            killer.join()
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 4  # noqa: PTH208
    ours = [child for child in psutil.Process().children() if child.pid not in others]
    assert len(ours) <= 2 + len(pool.workers.seats())


def test_a_straggler_is_copied_and_the_first_result_counts(pool: LocalPool, tmp_path: Path) -> None:
    @kernel
    def stuck_once(mark: str, x: int) -> int:
        if x == 3:
            try:
                Path(mark).touch(exist_ok=False)
            except FileExistsError:
                return x
            time.sleep(120)
        return x

    @program
    def stuck(mark: str, xs: list[int]) -> list[int]:
        return my.map(stuck_once, my.ref(mark), xs)

    inputs = {"mark": str(tmp_path / "mark"), "xs": list(range(20))}
    assert run(stuck.module, inputs, pool) == list(range(20))
    limit = time.monotonic() + 30
    while any(seat.held for seat in pool.workers.seats()) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not any(seat.held for seat in pool.workers.seats()), "the worker that slept for nobody was replaced"


def test_both_sides_of_a_select_start_before_its_condition_is_known(pool: LocalPool, tmp_path: Path) -> None:
    @kernel
    def condition(marks: str) -> bool:
        limit = time.monotonic() + 30
        while len(list(Path(marks).iterdir())) < 2 and time.monotonic() < limit:
            time.sleep(0.01)
        return len(list(Path(marks).iterdir())) == 2

    @kernel
    def side(marks: str, name: str) -> str:
        (Path(marks) / name).touch()
        return name

    @program
    def chosen(marks: str) -> str:
        return my.select(condition(marks), side(marks, "first"), side(marks, "second"))

    with LocalPool(3) as three:
        assert run(chosen.module, {"marks": str(tmp_path)}, three) == "first"


def test_errors_that_may_pass_are_tried_again_when_the_kernel_says_so(pool: LocalPool, tmp_path: Path) -> None:
    @kernel(retries=3)
    def flaky(mark: str, x: int) -> int:
        count = len(list(Path(mark).iterdir()))
        (Path(mark) / f"{count}-{os.getpid()}").touch()
        if count < 2:
            raise OSError("not yet")
        return x

    @program
    def tried(mark: str, x: int) -> int:
        return flaky(mark, x)

    assert run(tried.module, {"mark": str(tmp_path), "x": 5}, pool) == 5


def test_kept_results_are_not_computed_again(pool: LocalPool, tmp_path: Path) -> None:
    @kernel(cache=True)
    def counted(mark: str, x: int) -> int:
        with open(mark, "a") as file:
            file.write(f"{x}\n")
        return 10 * x

    @program
    def twice(mark: str, xs: list[int]) -> list[int]:
        return my.map(counted, my.ref(mark), xs)

    @program
    def once(mark: str, x: int) -> int:
        return counted(mark, x)

    memo, mark = MemoryMemo(), tmp_path / "mark"
    for xs in ([1, 2, 3], [2, 3, 4], [4, 1]):
        assert run(twice.module, {"mark": str(mark), "xs": xs}, pool, memo=memo) == [10 * x for x in xs]
    assert sorted(mark.read_text().split()) == ["1", "2", "3", "4"]
    for _ in range(2):
        assert run(once.module, {"mark": str(mark), "x": 9}, pool, memo=memo) == 90
    assert mark.read_text().split().count("9") == 1


@kernel
def is_even(x: int) -> bool:
    time.sleep(0.2)
    return x % 2 == 0


@kernel
def keep_on(x: int) -> bool:
    time.sleep(0.5)
    return x < 3


@program
def one_more(x: int) -> int:
    return add(x, 1)


@program
def either(x: int) -> int:
    return my.select(is_even(x), x, my.loop(keep_on, one_more, x))


def test_a_loop_that_turns_out_not_to_be_needed_is_given_up(pool: LocalPool) -> None:
    for _ in range(2):
        assert run(either.module, {"x": 2}, pool) == 2
    assert run(either.module, {"x": 1}, pool) == 3


SCRIPT = """
import sys, time
import mycelium as my

def slow(x):
    time.sleep(0.05)
    return x

if __name__ == "__main__":
    my.map(abs, [1])
    print("up", flush=True)
    my.map(slow, range(100000))
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_a_caller_that_ends_leaves_no_process_behind(tmp_path: Path, how: signal.Signals) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    caller: Any = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert caller.stdout.readline() == b"up\n"
    workers = psutil.Process(caller.pid).children(recursive=True)
    assert workers
    caller.send_signal(how)
    _, said = caller.communicate(timeout=30)
    assert caller.returncode != 0
    if how == signal.SIGINT:
        assert b"KeyboardInterrupt" in said
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive


def test_a_stopped_worker_does_not_stop_a_map(pool: LocalPool) -> None:
    victim = psutil.Process(pool.workers.seats()[0].process.pid)
    victim.suspend()
    try:
        assert run(slow_total.module, {"xs": list(range(50))}, pool) == 3 * sum(range(50))
    finally:
        victim.resume()
