"""The graph of a program: operations in an order in which each comes after what it reads.

`VERBS` is the table of operations. Never: runs anything; a graph is data.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from mycelium.base.errors import Refused
from mycelium.polymer.kernel import Kernel
from mycelium.polymer.schema.types import Param, Type

# verb: (what it reads, what it means)
VERBS = {
    "input": ("", "a named value given by the caller"),
    "const": ("", "a value written into the program"),
    "call": ("a b ...", "kernel(a, b, ...)"),
    "map": ("xs ys ...", "kernel(x, y, ...) for the elements of equally long sequences, in order"),
    "zip": ("xs ys ...", "a list of tuples of the elements of equally long sequences"),
    "reduce": (
        "xs [init]",
        "kernel folded over xs: in order, or over a fixed tree where the author promises associativity",
    ),
    "scan": ("xs [init]", "the results of folding kernel over every beginning of xs"),
    "select": ("condition a b", "a where the condition is true, b where it is false; only the chosen one is needed"),
    "loop": ("state", "state = kernel(state) while test(state)"),
    "item": ("tuple", "one element of a tuple"),
    "tuple": ("a b ...", "a tuple of values"),
}


class Op(Struct, frozen=True):
    """One operation. `kernel`, `test` and `each` name kernels (in a loop, `kernel` may name a graph).

    `each` of a reduce or scan is applied to every element first (what fusing a map leaves behind).
    """

    verb: str
    reads: tuple[int, ...]
    type: Type
    kernel: str = ""
    test: str = ""
    each: str = ""
    associative: bool = False
    shared: tuple[int, ...] = ()  # of a map: which of its reads every call gets whole
    name: str = ""  # of an input
    index: int = 0  # of an item
    value: Any = None  # of a const


class Graph(Struct, frozen=True):
    name: str
    ops: tuple[Op, ...]
    output: int

    def inputs(self) -> tuple[Param, ...]:
        return tuple(Param(op.name, op.type) for op in self.ops if op.verb == "input")

    def result(self) -> Type:
        return self.ops[self.output].type


class Module(Struct, frozen=True):
    """A program with all that it names: its main graph first, the graphs that loops repeat, and the kernels."""

    graphs: dict[str, Graph]
    kernels: dict[str, Kernel]

    @property
    def main(self) -> Graph:
        return next(iter(self.graphs.values()))

    def kernel(self, name: str) -> Kernel:
        try:
            return self.kernels[name]
        except KeyError:
            raise Refused(f"program {self.main.name} names a kernel {name} that it does not hold") from None

    def with_graph(self, graph: Graph) -> Module:
        return msgspec.structs.replace(self, graphs={**self.graphs, graph.name: graph})


def users(graph: Graph) -> list[list[int]]:
    """For each operation, who reads it."""
    out: list[list[int]] = [[] for _ in graph.ops]
    for at, op in enumerate(graph.ops):
        for read in op.reads:
            out[read].append(at)
    return out


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


def rebuild(
    graph: Graph, keep: list[int], become: dict[int, int] | None = None, changed: dict[int, Op] | None = None
) -> Graph:
    """The graph of the operations `keep` (in that order), with reads renumbered.

    `become[old]` says which other operation stands for `old`; `changed[old]` is a new body for an operation that stays.
    """
    become, changed = become or {}, changed or {}
    place = {old: new for new, old in enumerate(keep)}

    def at(old: int) -> int:
        while old in become:
            old = become[old]
        return place[old]

    ops: list[Op] = []
    for old in keep:
        op = changed.get(old, graph.ops[old])
        ops.append(msgspec.structs.replace(op, reads=tuple(at(read) for read in op.reads)))
    return Graph(graph.name, tuple(ops), at(graph.output))
