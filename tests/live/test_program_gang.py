"""The ranks of a program's gang, as processes of this machine: whoever comes, goes or lies, the result is equal."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy
import pytest

import mycelium as my
from mycelium.base.errors import Denied
from mycelium.polymer.container import pmr, values
from mycelium.polymer.forms.seal import seal
from mycelium.polymer.program.graph import Module
from mycelium.polymer.runtime.dataflow import run
from mycelium.pools.gang.driver import GangPool
from mycelium.pools.gang.line import POOL, Line, answer, dial
from tests.live.site import wait_for

SECRET = "s" * 64


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
def where(x: int) -> str:
    time.sleep(0.02)
    return os.environ["MYC_NODE_NAME"]


@my.program
def places(xs: list[int]) -> list[str]:
    return my.map(where, xs)


@my.kernel
def scaled(scale: list[float], x: int) -> float:
    return scale[x % len(scale)] * x


@my.kernel
def picky(x: int) -> int:
    time.sleep(0.01)
    if x == 37:
        raise KeyError("thirty-seven")
    return x


@my.program
def picked(xs: list[int]) -> list[int]:
    return my.map(picky, xs)


class Gang:
    """Worker ranks as the site would start them, and the pool of rank 0 in this process."""

    def __init__(self, place: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.place = place
        self.pool = GangPool(1)
        self.pool.others.listen("127.0.0.1", self.port, SECRET)
        self.processes: list[subprocess.Popen[bytes]] = []

    def rank(self, secret: str = SECRET) -> subprocess.Popen[bytes]:
        number = len(self.processes) + 1
        env = {**os.environ, "MYC_NODE_NAME": f"n{number}", "MYC_NODE_RANK": str(number), "MYC_NODE_COUNT": "9"}
        env |= {"MYC_NODE_ADDRESSES": "127.0.0.1", "MYC_GANG_PORT": str(self.port), "MYC_GANG_SECRET": secret}
        words = [sys.executable, "-m", "mycelium.programs"]
        process = subprocess.Popen([*words], env={**env, "MYC_CPUS": "1"}, cwd=self.place, start_new_session=True)
        self.processes.append(process)
        return process

    def met(self, count: int) -> None:
        wait_for(lambda: len(self.pool.others.seats()) == count, f"{count} ranks")

    def end(self) -> None:
        self.pool.close()
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def gang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gang]:
    monkeypatch.setenv("MYC_NODE_NAME", "n0")
    gang = Gang(tmp_path)
    try:
        yield gang
    finally:
        gang.end()


def sealed(of: Any) -> Module:
    return seal(of.module)


def test_every_rank_takes_part_and_the_result_is_equal(gang: Gang) -> None:
    gang.rank()
    gang.rank()
    gang.met(2)
    assert set(run(sealed(places), {"xs": list(range(60))}, gang.pool)) == {"n0", "n1", "n2"}
    numbers = list(range(200))
    assert run(sealed(sum_of_squares), {"xs": numbers}, gang.pool) == sum(x * x for x in numbers)


def test_a_rank_that_is_killed_loses_only_its_batches(gang: Gang) -> None:
    first, _ = gang.rank(), gang.rank()
    gang.met(2)
    numbers = list(range(300))
    killed = False

    def watch(running: object) -> None:
        nonlocal killed
        if not killed and running.progress()[0] > 40:  # type: ignore[attr-defined]
            first.send_signal(signal.SIGKILL)
            killed = True

    assert run(sealed(sum_of_squares), {"xs": numbers}, gang.pool, watch=watch) == sum(x * x for x in numbers)
    assert killed
    gang.met(1)


def test_all_ranks_may_go_and_new_ones_may_come(gang: Gang) -> None:
    gang.rank()
    gang.met(1)
    gang.processes[0].kill()
    gang.met(0)
    gang.rank()
    gang.met(1)
    assert run(sealed(sum_of_squares), {"xs": list(range(50))}, gang.pool) == sum(x * x for x in range(50))


def test_a_line_that_breaks_is_dialled_again(gang: Gang) -> None:
    gang.rank()
    gang.met(1)
    first = gang.pool.others.seats()[0]
    first.line.close()
    wait_for(lambda: gang.pool.others.seats() and gang.pool.others.seats()[0] is not first, "the rank to dial again")
    assert run(sealed(sum_of_squares), {"xs": list(range(50))}, gang.pool) == sum(x * x for x in range(50))


def test_the_call_with_the_lowest_index_that_fails_is_raised_wherever_it_ran(gang: Gang) -> None:
    gang.rank()
    gang.met(1)
    with pytest.raises(KeyError, match="thirty-seven") as raised:
        run(sealed(picked), {"xs": list(range(60))}, gang.pool)
    assert "call 37" in raised.value.__notes__[0]


def test_arrays_and_shared_values_travel(gang: Gang) -> None:
    @my.program
    def program(scale: list[float], xs: list[int]) -> list[float]:
        return my.map(scaled, my.ref(scale), xs)

    gang.rank()
    gang.met(1)
    given = {"scale": numpy.arange(100_000.0), "xs": list(range(500))}
    module = seal(program.module)
    assert run(module, given, gang.pool) == [float(x * x) for x in range(500)]


def test_whoever_does_not_know_the_secret_is_not_let_in(gang: Gang) -> None:
    wait_for(lambda: gang.pool.others.door is not None, "rank 0 to listen")
    with pytest.raises((Denied, EOFError, OSError)):
        dial("127.0.0.1", gang.port, "another", POOL)
    for noise in (b"", b"GET / HTTP/1.1\r\n\r\n" * 20, os.urandom(1000)):
        with socket.create_connection(("127.0.0.1", gang.port)) as stranger:
            stranger.sendall(noise)
    gang.rank("another")
    gang.rank()
    gang.met(1)
    assert gang.pool.others.seats()[0].name == "n2"


def two_ends() -> tuple[Line, Line]:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as other:
        theirs = other.submit(dial, "127.0.0.1", server.getsockname()[1], SECRET, POOL)
        ours = answer(server.accept()[0], SECRET, POOL)
        return ours, theirs.result()


@pytest.mark.parametrize("damage", ["altered", "repeated"])
def test_a_message_that_was_altered_or_repeated_ends_the_line(damage: str) -> None:
    ours, theirs = two_ends()
    theirs.send({"x": 1})
    assert ours.receive() == {"x": 1}
    if damage == "repeated":
        theirs._sent -= 1
    else:
        theirs._key_out = bytes(32)
    theirs.send({"x": 1})
    with pytest.raises(EOFError):
        ours.receive()
    ours.close()
    theirs.close()


def test_without_the_port_rank_0_works_alone(tmp_path: Path) -> None:
    (tmp_path / "program.pmr").write_bytes(pmr.pack(seal(sum_of_squares.module)))
    (tmp_path / "input.pmv").write_bytes(values.pack({"xs": [1, 2, 3]}))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        env = {**os.environ, "MYC_NODE_RANK": "0", "MYC_NODE_COUNT": "2", "MYC_NODE_ADDRESSES": "127.0.0.1,127.0.0.1"}
        env |= {"MYC_GANG_PORT": str(taken.getsockname()[1]), "MYC_GANG_SECRET": SECRET}
        words = [sys.executable, "-m", "mycelium.programs"]
        subprocess.run(words, env=env, cwd=tmp_path, check=True, timeout=60)
    assert values.read((tmp_path / "result.pmv").read_bytes()) == 14
