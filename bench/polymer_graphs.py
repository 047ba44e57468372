"""Graphs for benchmarks of Polymer: Task Bench's patterns, and random ones. Data only: nothing is measured here.

Source: Slaughter et al., Task Bench: A Parameterized Benchmark for Evaluating Parallel Runtime Performance, SC 2020.
"""

from __future__ import annotations

import random
import time

PATTERNS = ("trivial", "no_comm", "stencil_1d", "fft", "tree", "random_nearest")

Graph = list[tuple[int, ...]]  # for each task, the earlier tasks that it reads


def pattern(name: str, width: int, steps: int) -> Graph:
    """`steps` rows of `width` tasks; what a task of one row reads of the row before is the pattern."""
    chance = random.Random(1)
    graph: Graph = [() for _ in range(width)]
    for step in range(1, steps):
        before = (step - 1) * width
        for column in range(width):
            graph.append(tuple(before + at for at in _reads(name, column, width, step, chance)))
    return graph


def _reads(name: str, column: int, width: int, step: int, chance: random.Random) -> list[int]:
    match name:
        case "trivial":
            return []
        case "no_comm":
            return [column]
        case "stencil_1d":
            return [at for at in (column - 1, column, column + 1) if 0 <= at < width]
        case "fft":
            stride = 1 << (step % max(1, width.bit_length() - 1))
            return [at for at in (column - stride, column, column + stride) if 0 <= at < width]
        case "tree":
            return [column // 2]
        case _:
            return [at for at in range(max(0, column - 2), min(width, column + 3)) if chance.random() < 0.5]


def random_graph(size: int, seed: int = 3) -> Graph:
    """Each task reads up to three of the fifty before it."""
    chance = random.Random(seed)
    return [
        tuple(sorted({chance.randrange(max(0, at - 50), at) for _ in range(chance.randrange(4))})) if at else ()
        for at in range(size)
    ]


def busy(grain_us: int, *reads: int) -> int:
    """A task that keeps one core busy for so long."""
    until = time.perf_counter_ns() + grain_us * 1000
    while time.perf_counter_ns() < until:
        pass
    return grain_us
