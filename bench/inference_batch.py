"""A batch on two replicas of a real model, beside the same replicas driven directly.

`python -m bench.inference_batch`. The model is SmolLM2 135M; where it cannot be had, there are no rows. The batch and
the direct requests take turns on the very same processes: eight requests at a time, four for each replica.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.alone import alone, doing
from bench.inference_site import PARALLEL, PATH, WAIT_S, Served, Worked, body, served, server_of, submit, worked
from bench.row import Row

LINES, ROUNDS = 200, 2


@dataclass(frozen=True)
class Turn:
    """What some rounds of the same kind came to, over all replicas."""

    tokens: int = 0
    took_s: float = 0.0
    ran_s: float = 0.0
    without_work: float = 0.0  # replica-seconds

    def __add__(self, other: Turn) -> Turn:
        return Turn(
            self.tokens + other.tokens,
            self.took_s + other.took_s,
            self.ran_s + other.ran_s,
            self.without_work + other.without_work,
        )

    @property
    def per_s(self) -> float:
        return self.tokens / self.took_s

    @property
    def cpu_ms(self) -> float:
        return self.ran_s / self.tokens * 1000


def measured(processes: list[int], work: Callable[[], int]) -> Turn:
    before = [worked(process) for process in processes]
    begun = time.perf_counter()
    tokens = work()
    took_s = time.perf_counter() - begun
    had: list[Worked] = [worked(process) - was for process, was in zip(processes, before, strict=True)]
    idle_s = sum(max(0.0, took_s - one.ran_s - one.waited_s) for one in had)
    return Turn(tokens, took_s, sum(one.ran_s for one in had), idle_s)


def batch(http: httpx.Client, numbers: range) -> int:
    name = submit(http, numbers)
    while True:
        found = http.get(f"/v1/batches/{name}").json()
        if found["status"] == "completed":
            return found["usage"]["output_tokens"]
        time.sleep(0.05)


def directly(clients: list[httpx.Client], numbers: range) -> int:
    turn = itertools.cycle(clients)

    def ask(given: tuple[int, httpx.Client]) -> int:
        return given[1].post(PATH, json=body(given[0])).json()["usage"]["completion_tokens"]

    with ThreadPoolExecutor(PARALLEL * len(clients)) as pool:
        return sum(pool.map(ask, zip(numbers, turn, strict=False)))


def compare(model: Served, lines: int, rounds: int) -> list[Row]:
    ours, theirs = Turn(), Turn()
    with ExitStack() as stack:
        transports = [httpx.HTTPTransport(uds=str(path)) for path in model.sockets()]
        clients = [
            stack.enter_context(httpx.Client(transport=one, base_url="http://replica", timeout=WAIT_S))
            for one in transports
        ]
        processes = [server_of(path) for path in model.sockets()]
        for number in range(rounds):
            numbers = range(number * lines, (number + 1) * lines)
            doing(f"the replicas driven directly, round {number + 1} of {rounds}")
            theirs += measured(processes, lambda numbers=numbers: directly(clients, numbers))
            doing(f"a batch of {lines} lines, round {number + 1} of {rounds}")
            ours += measured(processes, lambda numbers=numbers: batch(model.http, numbers))
    idle = [100 * turn.without_work / len(processes) / turn.took_s for turn in (ours, theirs)]
    note = (
        f"a token takes {ours.cpu_ms:.1f} ms of processor time, directly {theirs.cpu_ms:.1f} ms; "
        f"replicas are without work {idle[0]:.1f} % of the time, directly {idle[1]:.1f} %"
    )
    bound = f"the same two replicas with {PARALLEL} requests each: {theirs.per_s:.0f} tokens/s"
    return [
        Row(f"a batch of {lines} lines on two replicas", ours.per_s, "tokens/s", None, "more", bound=bound),
        Row("of what the replicas give directly", ours.per_s / theirs.per_s, "times", 0.9, "more", note=note),
    ]


def run(small: bool = False) -> list[Row]:
    """All figures. Small: a dozen lines, once."""
    with tempfile.TemporaryDirectory(prefix="myc-bench-") as name, served(Path(name)) as model:
        if model is None:
            return []
        return compare(model, *((12, 1) if small else (LINES, ROUNDS)))


if __name__ == "__main__":
    alone("batches of language models", run)
