"""A loop whose body is a graph: one run after the other, each with the state that the one before left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mycelium.polymer.program.graph import Graph, Op
from mycelium.polymer.schema.types import BOOL, TupleOf

if TYPE_CHECKING:
    from mycelium.polymer.runtime.dataflow import Run


class Loop:
    """Runs the test alone first, then rounds of body and test together."""

    def __init__(self, parent: Run, at: int, op: Op, state: Any) -> None:
        self.parent, self.at, self.op, self.state = parent, at, op, state
        body = parent.module.graphs[op.kernel]
        self.name = body.inputs()[0].name
        kind = body.inputs()[0].type
        self.first = Graph(op.test, (Op("input", (), kind, name=self.name), Op("call", (0,), BOOL, kernel=op.test)), 1)
        test = Op("call", (body.output,), BOOL, kernel=op.test)
        both = Op("tuple", (body.output, len(body.ops)), TupleOf((body.result(), BOOL)))
        self.round = Graph(body.name, (*body.ops, test, both), len(body.ops) + 1)
        self.running: Run | None = None
        self.over = False

    def start(self) -> None:
        self._run(self.first, self._tested)

    def cancel(self) -> None:
        self.over = True
        if self.running is not None:
            self.running.cancel()

    def _run(self, graph: Graph, then: Any) -> None:
        parent = self.parent
        self.running = type(parent)(
            parent.module,
            graph,
            {self.name: self.state},
            parent.pool,
            then=then,
            costs=parent.costs,
            speculate=parent.speculate,
            copies=parent.copies,
            memo=parent.memo,
        )
        self.running.start()

    def _tested(self, run: Run) -> None:
        if self.over:  # it was cancelled, and so was its run, which has no result
            return
        self._step(run, None if run.error else (self.state, run.result()))

    def _rounded(self, run: Run) -> None:
        if self.over:
            return
        self._step(run, None if run.error else run.result())

    def _step(self, run: Run, outcome: tuple[Any, bool] | None) -> None:
        if outcome is None:
            self.parent.nested_done(self, self.at, run.error, None)
            return
        self.state, more = outcome
        if more:
            self._run(self.round, self._rounded)
        else:
            self.parent.nested_done(self, self.at, None, self.state)
