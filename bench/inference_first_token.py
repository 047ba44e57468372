"""How long a person waits for a first token while a batch fills the idle time, beside the same on idle replicas.

`python -m bench.inference_first_token`. Two replicas of SmolLM2 135M; where it cannot be had, there are no rows.
Questions on idle replicas and beside a batch take turns, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.alone import alone, doing
from bench.inference_site import PATH, Served, body, served, server_of, submit, worked
from bench.row import Row
from mycelium.serve.gateway.fleet import PEOPLE_S

ROUNDS, QUESTIONS = 3, 12
BETWEEN_S = 0.2
LINES = 1_000  # more than is through before the questions are


@dataclass(frozen=True)
class First:
    """A first token: when it came, and how long each replica computed until then."""

    took_ms: float
    ran_ms: tuple[float, ...]


def first_token(http: httpx.Client, processes: list[int], number: int) -> First:
    before = [worked(process) for process in processes]
    begun = time.perf_counter()
    with http.stream("POST", PATH, json={**body(number, 4), "stream": True}) as reply:
        lines = (line for line in reply.iter_lines() if line.startswith("data:"))
        next(lines)
        took_ms = (time.perf_counter() - begun) * 1000
        had = [worked(process) - was for process, was in zip(processes, before, strict=True)]
        for _ in lines:
            pass
    return First(took_ms, tuple(one.ran_s * 1000 for one in had))


def questions(http: httpx.Client, processes: list[int], first: int, count: int) -> list[First]:
    found: list[First] = []
    for number in range(first, first + count):
        time.sleep(BETWEEN_S)
        found.append(first_token(http, processes, number))
    return found


def cancel(http: httpx.Client, name: str) -> None:
    http.post(f"/v1/batches/{name}/cancel")
    while http.get(f"/v1/batches/{name}").json()["status"] != "cancelled":
        time.sleep(0.05)


def compare(model: Served, rounds: int, count: int, pause_s: float) -> list[Row]:
    http, processes = model.http, [server_of(path) for path in model.sockets()]
    idle: list[First] = []
    beside: list[First] = []
    surprised: list[First] = []
    questions(http, processes, 0, 4)
    for number in range(1, rounds + 1):
        doing(f"first tokens, idle and beside a batch, round {number} of {rounds}")
        idle += questions(http, processes, 1_000 * number, count)
        name = submit(http, range(LINES))
        time.sleep(pause_s)
        surprised.append(first_token(http, processes, 1_000 * number + 500))
        beside += questions(http, processes, 1_000 * number + 600, count)
        cancel(http, name)
    alone_ms, beside_ms, first_ms = (statistics.median(one.took_ms for one in to) for to in (idle, beside, surprised))
    # An idle replica computes for the question alone; beside a batch both compute all the time.
    ran_ms = statistics.median(max(one.ran_ms) for one in idle)
    ran_beside_ms = statistics.median(statistics.fmean(one.ran_ms) for one in beside)
    note = (
        f"{beside_ms:.0f} ms, in which the replica computed for {ran_beside_ms:.0f} ms, idle for {ran_ms:.0f} ms; "
        f"the first question after a pause, when lines have all places: {first_ms:.0f} ms"
    )
    what = "first token beside a batch that fills the idle time, of that"
    return [
        Row("first token, idle, median", alone_ms, "ms"),
        Row(what, beside_ms / alone_ms, "times", 1.5, "less", note=note),
    ]


def run(small: bool = False) -> list[Row]:
    """All figures. Small: two questions."""
    with tempfile.TemporaryDirectory(prefix="myc-bench-") as name, served(Path(name)) as model:
        if model is None:
            return []
        return compare(model, *((1, 2, 1.0) if small else (ROUNDS, QUESTIONS, PEOPLE_S + 2)))


if __name__ == "__main__":
    alone("first tokens of language models", run)
