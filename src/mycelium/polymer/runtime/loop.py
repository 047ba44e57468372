"""A loop whose body is a graph: one run after the other, each with the state that the one before left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from mycelium.polymer.program.graph import Graph, Op
from mycelium.polymer.schema.types import BOOL, TupleOf


class Round(Protocol):
    """A run of the test or of the body, on the pool of the run that the loop is a part of."""

    error: BaseException | None

    def start(self) -> None: ...
    def cancel(self) -> None: ...
    def result(self) -> Any: ...


Make = Callable[[Graph, Mapping[str, Any], Callable[[Round], None]], Round]  # the last is called when the run is over
Then = Callable[["Loop", BaseException | None, Any], None]  # with the error or the last state


class Loop:
    """Runs the test alone first, then rounds of body and test together."""

    def __init__(self, op: Op, body: Graph, state: Any, make: Make, then: Then) -> None:
        self.state, self.make, self.then = state, make, then
        self.name = body.inputs()[0].name
        kind = body.inputs()[0].type
        self.first = Graph(op.test, (Op("input", (), kind, name=self.name), Op("call", (0,), BOOL, kernel=op.test)), 1)
        test = Op("call", (body.output,), BOOL, kernel=op.test)
        both = Op("tuple", (body.output, len(body.ops)), TupleOf((body.result(), BOOL)))
        self.round = Graph(body.name, (*body.ops, test, both), len(body.ops) + 1)
        self.running: Round | None = None
        self.over = False

    def start(self) -> None:
        self._run(self.first, self._tested)

    def cancel(self) -> None:
        self.over = True
        if self.running is not None:
            self.running.cancel()

    def _run(self, graph: Graph, then: Callable[[Round], None]) -> None:
        # It is known before it starts, since it may be over, and the next one under way, when `start` returns.
        self.running = self.make(graph, {self.name: self.state}, then)
        self.running.start()

    def _tested(self, run: Round) -> None:
        if self.over:  # it was cancelled, and so was its run, which has no result
            return
        self._step(run, None if run.error else (self.state, run.result()))

    def _rounded(self, run: Round) -> None:
        if self.over:
            return
        self._step(run, None if run.error else run.result())

    def _step(self, run: Round, outcome: tuple[Any, bool] | None) -> None:
        if outcome is None:
            self.then(self, run.error, None)
            return
        self.state, more = outcome
        if more:
            self._run(self.round, self._rounded)
        else:
            self.then(self, None, self.state)
