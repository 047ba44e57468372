"""A map over a map that nobody else reads becomes one map of a fused kernel: its lists never travel."""

from __future__ import annotations

import msgspec

from mycelium.base.limits import FUSED_STEPS_MAX
from mycelium.polymer.compiler.rewrite import chain, enter, fusible, graphs, steps_of
from mycelium.polymer.program.graph import Graph, Module, rebuild, users


def fuse_maps(module: Module) -> Module:
    return graphs(module, _fuse)


def _fuse(module: Module, graph: Graph) -> tuple[Module, Graph]:
    readers = users(graph)
    ops = list(graph.ops)
    gone: set[int] = set()
    for at, op in enumerate(ops):
        if op.verb != "map" or len(op.reads) != 1 or op.shared:
            continue
        inner_at = op.reads[0]
        inner = ops[inner_at]
        if inner.verb != "map" or len(readers[inner_at]) != 1 or inner_at == graph.output:
            continue
        first, second = module.kernels[inner.kernel], module.kernels[op.kernel]
        if not (fusible(first) and fusible(second)) or steps_of(first) + steps_of(second) > FUSED_STEPS_MAX:
            continue
        if len(first.signature.params) != len(inner.reads) or len(second.signature.params) != 1:
            continue  # a kernel with `*rest` has no fixed place for each argument
        if any(param.name.startswith("*") for param in (*first.signature.params, *second.signature.params)):
            continue
        module, name = enter(module, chain(first, second))
        ops[at] = msgspec.structs.replace(op, reads=inner.reads, shared=inner.shared, kernel=name)
        gone.add(inner_at)
    keep = [at for at in range(len(ops)) if at not in gone]
    return module, rebuild(Graph(graph.name, tuple(ops), graph.output), keep)
