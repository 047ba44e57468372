"""Whether a module holds together: every reference resolves, every operation is typed as its kernel says.

A module that was traced here always does; one that was read from a file must be asked.
"""

from __future__ import annotations

from collections.abc import Callable

from mycelium.base.errors import Fault, refuse
from mycelium.base.limits import FUSED_STEPS_MAX, PROGRAM_KERNELS_MAX, PROGRAM_OPS_MAX
from mycelium.polymer.kernel import FusedForm, Kernel
from mycelium.polymer.program.graph import VERBS, Graph, Module, Op
from mycelium.polymer.schema.types import ANY, BOOL, Anything, ListOf, Signature, Tensor, TupleOf, Type, Union, element
from mycelium.polymer.schema.unify import Bindings, apply, mismatch
from mycelium.polymer.schema.values import type_of

_COUNTS = {
    "input": (0, 0),
    "const": (0, 0),
    "item": (1, 1),
    "select": (3, 3),
    "loop": (1, 1),
    "reduce": (1, 2),
    "scan": (1, 2),
}


def check(module: Module) -> None:
    """Errors: `Refused` that names every fault."""
    faults: list[Fault] = []
    if len(module.kernels) > PROGRAM_KERNELS_MAX:
        faults.append(Fault("program", f"{len(module.kernels)} kernels; at most {PROGRAM_KERNELS_MAX}"))
    for kernel in module.kernels.values():
        faults += _kernel(kernel)
    for graph in module.graphs.values():
        faults += _graph(module, graph)
    faults += _cycles(module)
    refuse(faults[:20])


def _kernel(kernel: Kernel) -> list[Fault]:
    """What a fused kernel does must be calls of its members on what exists by then."""
    faults: list[Fault] = []
    for form in kernel.forms:
        if not isinstance(form, FusedForm):
            continue
        params = len(kernel.signature.params)
        for number, step in enumerate(form.steps):
            good = 0 <= step.member < len(form.members) and all(0 <= at < params + number for at in step.arguments)
            if not good or len(step.arguments) != len(form.members[step.member].signature.params):
                faults.append(Fault(f"kernel {kernel.name}, step {number}", "it reads or calls what is not there"))
        if not 1 <= len(form.steps) <= FUSED_STEPS_MAX:
            faults.append(Fault(f"kernel {kernel.name}", f"{len(form.steps)} fused steps; 1 to {FUSED_STEPS_MAX}"))
        faults += [fault for member in form.members for fault in _kernel(member)]
    return faults


def _graph(module: Module, graph: Graph) -> list[Fault]:
    where = f"program {graph.name}"
    if len(graph.ops) > PROGRAM_OPS_MAX:
        return [Fault(where, f"{len(graph.ops)} operations; at most {PROGRAM_OPS_MAX}")]
    if not 0 <= graph.output < len(graph.ops):
        return [Fault(where, "its output is not one of its operations")]
    names = [op.name for op in graph.ops if op.verb == "input"]
    faults = [Fault(where, f"two inputs are called {name}") for name in sorted(set(names)) if names.count(name) > 1]
    for at, op in enumerate(graph.ops):
        place = f"{where}, %{at} {op.verb}"
        reasons = _shape(module, op, at)
        if not reasons:
            reasons = _typed(module, graph, op)
        faults += [Fault(place, reason) for reason in reasons]
    return faults


def _shape(module: Module, op: Op, at: int) -> list[str]:
    if op.verb not in VERBS:
        return [f"there is no verb {op.verb!r}"]
    low, high = _COUNTS.get(op.verb, (0 if op.verb in ("call", "tuple") else 1, PROGRAM_OPS_MAX))
    if not low <= len(op.reads) <= high:
        return [f"it reads {len(op.reads)} values"]
    if any(not 0 <= read < at for read in op.reads):
        return ["it reads what comes after it"]
    if any(not 0 <= position < len(op.reads) for position in op.shared):
        return ["it shares an argument that it does not have"]
    needs_kernel = op.verb in ("call", "map", "reduce", "scan", "loop")
    callees = [op.kernel] if needs_kernel else []
    callees += [op.test] if op.verb == "loop" else []
    callees += [op.each] if op.each else []
    held = {*module.kernels, *(module.graphs if op.verb == "loop" else ())}
    return [f"it names {callee or 'no kernel'}, which is not here" for callee in callees if callee not in held]


def _typed(module: Module, graph: Graph, op: Op) -> list[str]:
    reads = [graph.ops[read].type for read in op.reads]
    kind, reasons = _TYPES[op.verb](module, op, reads) if op.verb in _TYPES else (op.type, [])
    if not reasons:
        why = mismatch(op.type, kind, Bindings(), "result")
        reasons = [f"its type is not that of its result: {why}"] if why else []
    return reasons


def _said(faults: list[Fault]) -> list[str]:
    return [str(fault) for fault in faults]


def _const(module: Module, op: Op, reads: list[Type]) -> tuple[Type, list[str]]:
    return type_of(op.value), []


def _call(module: Module, op: Op, reads: list[Type]) -> tuple[Type, list[str]]:
    kernel = module.kernels[op.kernel]
    kind, faults = apply(kernel.name, kernel.signature, reads, kernel.optional)
    return kind, _said(faults)


def _elements(reads: list[Type], whole: tuple[int, ...] = ()) -> tuple[list[Type], list[str]]:
    kinds = [kind if at in whole else element(kind) for at, kind in enumerate(reads)]
    bad = [str(reads[at]) for at, kind in enumerate(kinds) if kind is None]
    return [kind or ANY for kind in kinds], [f"expected a list or an array, got {name}" for name in bad]


def _map(module: Module, op: Op, reads: list[Type]) -> tuple[Type, list[str]]:
    kinds, reasons = _elements(reads, op.shared)
    if len(op.shared) >= len(reads):
        reasons.append("it has no sequence to walk over")
    if reasons:
        return ANY, reasons
    kernel = module.kernels[op.kernel]
    kind, faults = apply(kernel.name, kernel.signature, kinds, kernel.optional)
    return ListOf(kind), _said(faults)


def _zip(module: Module, op: Op, reads: list[Type]) -> tuple[Type, list[str]]:
    kinds, reasons = _elements(reads)
    return ListOf(TupleOf(tuple(kinds))), reasons


def _fold(module: Module, op: Op, reads: list[Type]) -> tuple[Type, list[str]]:
    (item,), reasons = _elements(reads[:1])
    if reasons:
        return ANY, reasons
    if op.each:
        each = module.kernels[op.each]
        item, faults = apply(each.name, each.signature, [item], each.optional)
        if faults:
            return ANY, _said(faults)
    kernel = module.kernels[op.kernel]
    kind, faults = apply(kernel.name, kernel.signature, [reads[1] if len(reads) > 1 else item, item], kernel.optional)
    return (kind if op.verb == "reduce" else ListOf(kind)), _said(faults)


def _select(module: Module, op: Op, reads: list[Type]) -> tuple[Type, list[str]]:
    why = "" if isinstance(reads[0], Tensor) else mismatch(BOOL, reads[0], Bindings(), "condition")
    return Union((reads[1], reads[2])), [f"condition: {why}"] if why else []


def _loop(module: Module, op: Op, reads: list[Type]) -> tuple[Type, list[str]]:
    test = module.kernels.get(op.test)
    if test is None:
        return ANY, [f"its test {op.test} is not a kernel"]
    verdict, faults = apply(test.name, test.signature, reads, test.optional)
    why = mismatch(BOOL, verdict, Bindings(), "test")
    if op.kernel in module.graphs:
        inner = module.graphs[op.kernel]
        kind, more = apply(inner.name, Signature(inner.inputs(), inner.result()), reads)
    else:
        body = module.kernels[op.kernel]
        kind, more = apply(body.name, body.signature, reads, body.optional)
    return kind, [*_said(faults), *_said(more), *([f"test: {why}"] if why else [])]


def _item(module: Module, op: Op, reads: list[Type]) -> tuple[Type, list[str]]:
    match reads[0]:
        case TupleOf(items):
            inside = -len(items) <= op.index < len(items)
            return (items[op.index], []) if inside else (ANY, [f"a tuple of {len(items)} has no element {op.index}"])
        case Anything():
            return ANY, []
        case other:
            return ANY, [f"expected a tuple, got {other}"]


def _tuple(module: Module, op: Op, reads: list[Type]) -> tuple[Type, list[str]]:
    return TupleOf(tuple(reads)), []


_TYPES: dict[str, Callable[[Module, Op, list[Type]], tuple[Type, list[str]]]] = {
    "const": _const,
    "call": _call,
    "map": _map,
    "zip": _zip,
    "reduce": _fold,
    "scan": _fold,
    "select": _select,
    "loop": _loop,
    "item": _item,
    "tuple": _tuple,
}


def _cycles(module: Module) -> list[Fault]:
    """A graph that repeats itself would never end."""
    inner = {
        name: [op.kernel for op in graph.ops if op.verb == "loop" and op.kernel in module.graphs]
        for name, graph in module.graphs.items()
    }
    done: set[str] = set()
    for start in inner:
        stack, path = [(start, 0)], [start]
        while stack:
            name, at = stack.pop()
            del path[len(stack) + 1 :]
            if at < len(inner[name]) and name not in done:
                stack.append((name, at + 1))
                following = inner[name][at]
                if following in path:
                    return [Fault(f"program {following}", "it repeats itself")]
                stack.append((following, 0))
                path.append(following)
            else:
                done.add(name)
    return []
