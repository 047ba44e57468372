"""The last map before a reduce runs inside it: workers fold what they mapped, and only partial results travel."""

from __future__ import annotations

import msgspec

from mycelium.polymer.compiler.rewrite import fusible, graphs
from mycelium.polymer.program.graph import Graph, Module, rebuild, users


def fuse_reduces(module: Module) -> Module:
    return graphs(module, _fuse)


def _fuse(module: Module, graph: Graph) -> tuple[Module, Graph]:
    readers = users(graph)
    ops = list(graph.ops)
    gone: set[int] = set()
    for at, op in enumerate(ops):
        # A fold in order runs on one worker: the map before it is better left to all of them.
        if op.verb != "reduce" or not op.associative or op.each:
            continue
        inner_at = op.reads[0]
        inner = ops[inner_at]
        if inner.verb != "map" or len(inner.reads) != 1 or len(readers[inner_at]) != 1 or inner_at == graph.output:
            continue
        if not fusible(module.kernels[inner.kernel]):
            continue
        ops[at] = msgspec.structs.replace(op, reads=(inner.reads[0], *op.reads[1:]), each=inner.kernel)
        gone.add(inner_at)
    keep = [at for at in range(len(ops)) if at not in gone]
    return module, rebuild(Graph(graph.name, tuple(ops), graph.output), keep)
