"""What a run needs to know of a graph before it starts: who reads what, where to begin, how far the end is."""

from __future__ import annotations

from msgspec import Struct

from mycelium.polymer.program.graph import Graph, users


class Plan(Struct, frozen=True):
    """`rank`: operations on the longest way from each to the output. `uses`: how often each value will be read."""

    users: list[list[int]]
    roots: list[int]
    rank: list[int]
    uses: list[int]


def plan(graph: Graph) -> Plan:
    readers = users(graph)
    rank = [0] * len(graph.ops)
    for at in range(len(graph.ops) - 1, -1, -1):
        weight = 0 if graph.ops[at].verb in ("input", "const", "item", "tuple") else 1
        rank[at] = weight + max((rank[user] for user in readers[at]), default=0)
    return Plan(
        [sorted(set(ones)) for ones in readers],
        [at for at, op in enumerate(graph.ops) if not op.reads],
        rank,
        [len(ones) for ones in readers],
    )


def frames(graph: Graph) -> list[list[int]]:
    """Operations grouped so that each frame depends only on earlier ones: what may run at the same time."""
    level = [0] * len(graph.ops)
    out: list[list[int]] = []
    for at, op in enumerate(graph.ops):
        if op.verb in ("input", "const"):
            continue
        level[at] = 1 + max((level[read] for read in op.reads), default=0)
        while len(out) < level[at]:
            out.append([])
        out[level[at] - 1].append(at)
    return out
