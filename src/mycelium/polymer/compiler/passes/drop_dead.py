"""What the output does not need goes; a select whose condition is a constant becomes the side that it chooses."""

from __future__ import annotations

from mycelium.polymer.compiler.rewrite import graphs
from mycelium.polymer.program.graph import Graph, Module, rebuild


def drop_dead(module: Module) -> Module:
    module = graphs(module, _drop)
    reached, stack = {module.main.name}, [module.main]
    kernels: set[str] = set()
    while stack:
        graph = stack.pop()
        for op in graph.ops:
            for callee in (op.kernel, op.test, op.each):
                if callee in module.graphs and op.verb == "loop" and callee not in reached:
                    reached.add(callee)
                    stack.append(module.graphs[callee])
                elif callee:
                    kernels.add(callee)
    return Module(
        {name: graph for name, graph in module.graphs.items() if name in reached},
        {name: kernel for name, kernel in module.kernels.items() if name in kernels},
    )


def _drop(module: Module, graph: Graph) -> tuple[Module, Graph]:
    become: dict[int, int] = {}
    for at, op in enumerate(graph.ops):
        if op.verb == "select" and graph.ops[op.reads[0]].verb == "const":
            become[at] = op.reads[1] if graph.ops[op.reads[0]].value else op.reads[2]
    needed = {at for at, op in enumerate(graph.ops) if op.verb == "input"}  # inputs are the caller's, needed or not
    stack = [graph.output]
    while stack:
        at = stack.pop()
        while at in become:
            at = become[at]
        if at not in needed or graph.ops[at].verb == "input":
            needed.add(at)
            stack += graph.ops[at].reads
    return module, rebuild(graph, sorted(needed), become)
