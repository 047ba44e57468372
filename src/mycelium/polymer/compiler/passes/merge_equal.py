"""Operations that do the same on the same values become one. Kernels are pure, so nobody can tell."""

from __future__ import annotations

from typing import Any

import msgspec

from mycelium.polymer.compiler.rewrite import graphs
from mycelium.polymer.program.graph import Graph, Module, Op, rebuild


def merge_equal(module: Module) -> Module:
    return graphs(module, _merge)


def _merge(module: Module, graph: Graph) -> tuple[Module, Graph]:
    first: dict[Any, int] = {}
    become: dict[int, int] = {}
    for at, op in enumerate(graph.ops):
        if op.verb == "input":
            continue
        key = _key(msgspec.structs.replace(op, reads=tuple(become.get(read, read) for read in op.reads)))
        if key is None:
            continue
        if key in first:
            become[at] = first[key]
        else:
            first[key] = at
    return module, rebuild(graph, [at for at in range(len(graph.ops)) if at not in become], become)


def _key(op: Op) -> Any:
    """Equal keys mean equal results; None where a constant cannot be compared safely (arrays, nan)."""
    if op.verb == "const":
        value = op.value
        return ("const", type(value), value) if type(value) in (int, str, bytes, bool, type(None)) else None
    return (op.verb, op.reads, op.kernel, op.test, op.each, op.associative, op.shared, op.index)
