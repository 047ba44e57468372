"""Chains of tensor calls become one module: XLA fuses their loops, and no array between them travels.

A call joins the call that it feeds when nobody else reads it. Only kernels that have a tensor form take part.
"""

from __future__ import annotations

import msgspec

from mycelium.base.limits import FUSED_STEPS_MAX
from mycelium.polymer.compiler.rewrite import enter, fusible, graphs
from mycelium.polymer.kernel import FusedCall, FusedForm, Kernel
from mycelium.polymer.program.graph import Graph, Module, Op, rebuild, users
from mycelium.polymer.schema.types import Param, Signature, Tensor


def fuse_calls(module: Module) -> Module:
    return graphs(module, _fuse)


def _fuse(module: Module, graph: Graph) -> tuple[Module, Graph]:
    readers = users(graph)
    joins = {at for at in range(len(graph.ops)) if _joins(module, graph, at, readers)}
    ops = list(graph.ops)
    gone: set[int] = set()
    for at in range(len(ops)):
        if at in joins or not _tensor_call(module, ops[at]):
            continue  # only the last call of a group is replaced
        group = _group(graph, at, joins)
        if len(group) < 2 or len(group) > FUSED_STEPS_MAX:
            continue
        kernel, outer = _fused(module, graph, group)
        module, name = enter(module, kernel)
        ops[at] = msgspec.structs.replace(ops[at], kernel=name, reads=tuple(outer))
        gone |= set(group[:-1])
    keep = [at for at in range(len(ops)) if at not in gone]
    return module, rebuild(Graph(graph.name, tuple(ops), graph.output), keep)


def _tensor_call(module: Module, op: Op) -> bool:
    if op.verb != "call":
        return False
    kernel = module.kernels[op.kernel]
    forms = kernel.form_names()
    kinds = [param.type for param in kernel.signature.params]
    return (
        bool(forms)
        and forms[0] == "xla"
        and fusible(kernel)
        and len(kinds) == len(op.reads)
        and all(isinstance(kind, Tensor) for kind in (*kinds, kernel.signature.result))
    )


def _joins(module: Module, graph: Graph, at: int, readers: list[list[int]]) -> bool:
    """Whether a call can become part of its only reader."""
    if at == graph.output or not _tensor_call(module, graph.ops[at]):
        return False
    alone = set(readers[at])
    return len(alone) == 1 and _tensor_call(module, graph.ops[next(iter(alone))])


def _group(graph: Graph, last: int, joins: set[int]) -> list[int]:
    """The calls that end in `last`, in the order of the graph."""
    group, stack = {last}, [last]
    while stack:
        for read in graph.ops[stack.pop()].reads:
            if read in joins and read not in group:
                group.add(read)
                stack.append(read)
    return sorted(group)


def _fused(module: Module, graph: Graph, group: list[int]) -> tuple[Kernel, list[int]]:
    """One kernel for the group, and what it reads from outside."""
    inside = set(group)
    outer = list(dict.fromkeys(read for at in group for read in graph.ops[at].reads if read not in inside))
    place = {read: number for number, read in enumerate(outer)}
    members: list[Kernel] = []
    steps: list[FusedCall] = []
    params: dict[int, Param] = {}
    for at in group:
        op = graph.ops[at]
        kernel = module.kernels[op.kernel]
        for read, param in zip(op.reads, kernel.signature.params, strict=True):
            if read not in inside and read not in params:
                kind = graph.ops[read].type
                params[read] = Param(f"x{len(params) + 1}", kind if isinstance(kind, Tensor) else param.type)
        if kernel not in members:
            members.append(kernel)
        steps.append(FusedCall(members.index(kernel), tuple(place[read] for read in op.reads)))
        place[at] = len(outer) + len(steps) - 1
    names = "__".join(dict.fromkeys(module.kernels[graph.ops[at].kernel].name for at in group))
    signature = Signature(tuple(params[read] for read in outer), graph.ops[group[-1]].type)
    name = names if len(names) <= 100 else f"{names[:96]}_etc"
    return Kernel(name, signature, (FusedForm(tuple(members), tuple(steps)),)), outer
