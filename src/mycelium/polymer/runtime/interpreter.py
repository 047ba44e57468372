"""The reference: operations one after the other, in one process, only those that the result needs.

Whatever a pool does must give what this gives. Arrays that kernels receive are read-only, here as in every pool, and
other mutable arguments are copies, so that a kernel that changes its arguments cannot change a program.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import Any

from mycelium.polymer.forms.resolve import resolve
from mycelium.polymer.program.graph import Graph, Module, Op
from mycelium.polymer.runtime import work
from mycelium.polymer.runtime.failure import failure
from mycelium.polymer.runtime.pool import Raised

_PLAIN = (int, float, str, bytes, bool, type(None))


def interpret(module: Module, inputs: Mapping[str, Any]) -> Any:
    """The result of the program's main graph on these inputs.

    Errors: what a kernel raised, with a note that names the kernel and the call.
    """
    return _Interpreter(module).graph(module.main, inputs)


def own(value: Any) -> Any:
    """What a kernel may get of a value: nothing through which it could change it."""
    if isinstance(value, _PLAIN):
        return value
    if hasattr(value, "flags") and hasattr(value, "setflags"):
        view = value.view()
        view.setflags(write=False)
        return view
    try:
        return pickle.loads(pickle.dumps(value, protocol=5))
    except Exception:  # a value that cannot be copied is the kernel's own risk; a pool could not carry it at all
        return value


class _Interpreter:
    def __init__(self, module: Module) -> None:
        self.module = module
        self.callables: dict[str, Callable[..., Any]] = {}

    def graph(self, graph: Graph, inputs: Mapping[str, Any]) -> Any:
        values: dict[int, Any] = {}
        stack = [graph.output]
        while stack:
            at = stack[-1]
            if at in values:
                stack.pop()
                continue
            op = graph.ops[at]
            needs = self._needs(op, values)
            missing = [read for read in needs if read not in values]
            if missing:
                stack.extend(reversed(missing))
                continue
            values[at] = self._value(op, values, inputs)
            stack.pop()
        return values[graph.output]

    def _needs(self, op: Op, values: Mapping[int, Any]) -> tuple[int, ...]:
        if op.verb != "select":
            return op.reads
        condition, first, second = op.reads
        return (condition,) if condition not in values else (condition, first if values[condition] else second)

    def _callable(self, name: str) -> Callable[..., Any]:
        if name not in self.callables:
            self.callables[name] = resolve(self.module.kernel(name))
        return self.callables[name]

    def _value(self, op: Op, values: Mapping[int, Any], inputs: Mapping[str, Any]) -> Any:
        reads = [values[read] for read in self._needs(op, values)]
        match op.verb:
            case "input":
                return inputs[op.name]
            case "const":
                return op.value
            case "zip":
                return work.zip_lists(reads)
            case "tuple":
                return tuple(reads)
            case "item":
                return reads[0][op.index]
            case "select":
                return reads[-1]
            case _:
                return self._run(op, reads)

    def _run(self, op: Op, reads: list[Any]) -> Any:
        try:
            return self._calls(op, reads)
        except work.CallFailed as failed:
            error = failed.__cause__
            assert error is not None
            raised = Raised(error, "", failed.index, "", "in the interpreter", op.kernel)
            raise failure(raised, 0, op.verb != "call") from None

    def _calls(self, op: Op, reads: list[Any]) -> Any:
        if op.verb == "loop":
            return self._loop(op, reads[0])
        kernel = self._callable(op.kernel)
        if op.verb == "call":
            return work.call(kernel, [own(read) for read in reads])
        if op.verb == "map":
            return self._map(op, kernel, reads)
        xs = own(work.elements(reads[0]))
        if op.each:
            xs = work.each(self._callable(op.each), [xs], ())
        start = [own(read) for read in reads[1:]]
        if op.verb == "scan":
            return work.prefix(kernel, xs, start) if op.associative and xs else work.scan(kernel, xs, start)
        if not op.associative or not xs:
            return work.fold(kernel, xs, start)
        whole = work.tree(kernel, xs)
        return work.call(kernel, [start[0], whole]) if start else whole

    def _map(self, op: Op, kernel: Callable[..., Any], reads: list[Any]) -> list[Any]:
        columns = [own(work.elements(read)) for at, read in enumerate(reads) if at not in op.shared]
        work.equal_lengths("map", op.kernel, columns)
        return work.each(kernel, columns, [(at, own(reads[at])) for at in op.shared])

    def _loop(self, op: Op, state: Any) -> Any:
        test = self._callable(op.test)
        if op.kernel not in self.module.graphs:
            return work.loop(test, self._callable(op.kernel), own(state))
        body = self.module.graphs[op.kernel]
        name = body.inputs()[0].name
        while work.call(test, [own(state)]):
            state = self.graph(body, {name: state})
        return state
