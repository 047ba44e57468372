"""What a run needs to know of a graph before it starts: who reads what, where to begin, how far the end is."""

from __future__ import annotations

from msgspec import Struct

from mycelium.polymer.program.graph import Graph, users


class Plan(Struct, frozen=True):
    """`rank`: operations on the longest way from each to the output. `uses`: how often each value will be read."""

    users: list[list[int]]
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
        rank,
        [len(ones) for ones in readers],
    )
