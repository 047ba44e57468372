"""A program on a pool: an operation runs as soon as what it reads exists, critical path first.

`flow` says what can begin; here it becomes batches. Lost ones are sent again, stragglers are copied to idle workers and
the first result counts. The result is the interpreter's. Never: knows what kind of pool it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mycelium.base.errors import Unavailable
from mycelium.base.limits import POOL_DEATHS_MAX, RUN_COPIES_SHARE
from mycelium.polymer.kernel import Kernel
from mycelium.polymer.program.graph import Graph, Module, Op
from mycelium.polymer.runtime import bundle as bundles
from mycelium.polymer.runtime.costs import Cost
from mycelium.polymer.runtime.failure import failure
from mycelium.polymer.runtime.flow import Flow
from mycelium.polymer.runtime.loop import Loop
from mycelium.polymer.runtime.memo import Memo, RunMemo
from mycelium.polymer.runtime.pool import BatchDone, Outcome, Pool, Raised, Shared, Work, WorkerLost
from mycelium.polymer.runtime.work import elements, equal_lengths

KNOWN_CALLS = 2  # calls that must have been measured before another one can be called late
STRAGGLER_NS = 500_000_000


class Run:
    """One graph on its way through a pool. `then` is called once, with the pool's lock held."""

    def __init__(
        self,
        module: Module,
        graph: Graph,
        inputs: Mapping[str, Any],
        pool: Pool,
        *,
        then: Callable[[Run], None],
        costs: dict[str, Cost],
        speculate: bool = True,
        copies: bool = True,
        heard: Callable[[bundles.Bundle], None] | None = None,
        memo: RunMemo | None = None,
    ) -> None:
        self.module, self.graph, self.inputs, self.pool, self.then = module, graph, inputs, pool, then
        self.costs, self.speculate, self.copies, self.heard = costs, speculate, copies, heard
        self.memo = memo
        self.flow = Flow(graph, inputs, speculate, self._abandoned)
        self.open: list[bundles.Bundle] = []  # begun, with batches left to cut, the most urgent first
        self.live: dict[int, bundles.Bundle] = {}
        self.behind = 0  # calls of operations that are over, but for one of each
        self.children: set[Loop] = set()
        self.error: BaseException | None = None
        self.over = False

    def start(self) -> None:
        with self.pool.lock:
            self.flow.start()
            self._follow()
            if not self.over:
                self.pool.attach(self)

    def cancel(self) -> None:
        with self.pool.lock:
            self._end(None)

    def _end(self, error: BaseException | None) -> None:
        if self.over:
            return
        self.over, self.error = True, error
        for child in list(self.children):
            child.cancel()
        self.pool.detach(self)
        if error is not None:
            self.flow.values.clear()
        self.then(self)

    def result(self) -> Any:
        return self.flow.values[self.graph.output]

    def _advance(self) -> None:
        self.flow.advance()
        self._follow()

    def _follow(self) -> None:
        """End when the flow is over."""
        failed = self.flow.failed
        if failed is not None:
            self._end(failure(failed.raised, failed.first, self.graph.ops[failed.at].verb != "call"))
        elif self.flow.over:
            self._end(None)

    def _abandoned(self, at: int) -> bool:
        bundle = self.live.pop(at, None)
        if bundle is None:
            return False
        if bundle in self.open:
            self.open.remove(bundle)
        for work in bundle.sent.values():
            self.pool.drop(work)
        bundle.sent.clear()
        return True

    def next(self, now_ns: int, idle: bool) -> Work | None:
        while self.open:
            bundle = self.open[0]
            if self.flow.has_more_urgent(bundle.at):
                break
            work = bundle.next(self.pool.slots)
            if work is not None:
                return self._send(bundle, work, now_ns)
            self.open.pop(0)
        while (at := self.flow.take(speculative=idle)) is not None:
            bundle = self._bundle(at)
            if bundle is None:
                self._advance()
                if self.over:
                    return None
                continue
            work = bundle.next(self.pool.slots)
            if work is None:
                continue
            if not isinstance(bundle, bundles.One):
                self.open.insert(0, bundle)
            return self._send(bundle, work, now_ns)
        return self._copy(now_ns) if idle and self.copies else None

    def _send(self, bundle: bundles.Bundle, work: Work, now_ns: int) -> Work:
        work.sent_ns = now_ns
        bundle.sent[id(work)] = work
        return work

    def _cost(self, kernel: str) -> Cost:
        cost = self.costs.get(kernel)
        if cost is None:
            cost = self.costs[kernel] = Cost()
        return cost

    def _bundle(self, at: int) -> bundles.Bundle | None:
        """The operation's batches; None when it turned out to need none, or to need a graph of its own."""
        op = self.graph.ops[at]
        try:
            bundle = self._make(at, op, [self.flow.values[read] for read in op.reads])
        except Exception as error:
            self.flow.spoil(at, Raised(error, "", 0, "", "in the program", op.kernel))
            return None
        if bundle is not None:
            self.live[at] = bundle
        return bundle

    def _make(self, at: int, op: Op, reads: list[Any]) -> bundles.Bundle | None:
        if op.verb == "loop" and op.kernel in self.module.graphs:
            self._nested(at, op, reads[0])
            return None
        kernel, cost = self.module.kernel(op.kernel), self._cost(f"{op.verb} {op.kernel} {op.each}")
        each = self.module.kernel(op.each) if op.each else None
        if op.verb == "call":
            return self._call(at, kernel, cost, tuple(reads))
        if op.verb == "loop":
            return bundles.One(at, kernel, cost, "loop", (reads[0],), test=self.module.kernel(op.test))
        if op.verb == "map":
            columns = [elements(read) for position, read in enumerate(reads) if position not in op.shared]
            equal_lengths("map", op.kernel, columns)
            if not len(columns[0]):
                self.flow.give(at, [])
                return None
            shared = [(position, Shared(reads[position])) for position in op.shared]
            if kernel.cache and self.memo is not None:
                return self._remembered(at, kernel, cost, columns, shared)
            return bundles.Many(at, kernel, cost, columns, shared, trip_ns=self.pool.trip_ns)
        xs = elements(reads[0])
        if op.verb == "reduce" and op.associative and len(xs):
            return bundles.FoldTree(at, kernel, cost, xs, each, self.pool.slots)
        if op.verb == "scan" and op.associative and len(xs):
            return bundles.Prefix(at, kernel, cost, xs, each, self.pool.slots, reads[1:])
        return bundles.One(at, kernel, cost, "scan" if op.verb == "scan" else "fold", (xs, reads[1:]), each=each)

    def _call(self, at: int, kernel: Kernel, cost: Cost, reads: tuple[Any, ...]) -> bundles.Bundle | None:
        if not kernel.cache or self.memo is None:
            return bundles.One(at, kernel, cost, "call", reads)
        memo, keys = self.memo, self.memo.keys(kernel)
        key = keys.of(reads)
        if held := memo.get(keys, key):
            self.flow.give(at, held[0])
            return None
        return bundles.One(at, kernel, cost, "call", reads, keep=lambda value: memo.put(keys, key, value))

    def _remembered(
        self, at: int, kernel: Kernel, cost: Cost, columns: list[Any], shared: list[tuple[int, Shared]]
    ) -> bundles.Bundle | None:
        """A map of a kernel whose results are kept: what is known is not called again."""
        memo = self.memo
        assert memo is not None
        keyed = memo.keys(kernel)
        common = [part for position, held in shared for part in (position, held.value)]
        keys = [keyed.of([*common, *xs]) for xs in zip(*columns, strict=True)]
        known = {index: held[0] for index, key in enumerate(keys) if (held := memo.get(keyed, key))}
        if len(known) == len(keys):
            self.flow.give(at, [known[index] for index in range(len(keys))])
            return None
        return bundles.Remembered(
            at, kernel, cost, columns, shared, known, lambda index, value: memo.put(keyed, keys[index], value)
        )

    def done(self, work: Work, outcome: Outcome, now_ns: int) -> None:
        bundle: bundles.Bundle = work.place
        if bundle.sent.pop(id(work), None) is None or self.over:
            return
        match outcome:
            case BatchDone():
                twin = self._twin(bundle, work)
                if twin is not None:
                    del bundle.sent[id(twin)]
                    self.pool.drop(twin)
                if outcome.chosen:
                    bundle.cost.chose(outcome.chosen)
                bundle.keep(work, outcome)
                if self.heard is not None:
                    self.heard(bundle)
            case Raised():
                if work.tried < work.kernel.retries:
                    self._resend(bundle, work, tried=1)
                    return
                bundle.fail(work, outcome)
            case WorkerLost():
                if self._twin(bundle, work) is None:
                    self._lost(bundle, work, outcome)
        if bundle.at not in self.live:
            return
        if bundle.settled():
            self._settle(bundle)
        elif bundle.waiting() and bundle not in self.open:
            self.open.insert(0, bundle)

    def _settle(self, bundle: bundles.Bundle) -> None:
        del self.live[bundle.at]
        self.behind += bundle.progress()[1] - 1
        if bundle in self.open:
            self.open.remove(bundle)
        if bundle.failed is not None:
            index, raised = bundle.failed
            self.flow.spoil(bundle.at, raised, index - raised.index)
            self._follow()
            return
        value = bundle.result()
        op = self.graph.ops[bundle.at]
        if op.verb == "reduce" and isinstance(bundle, bundles.FoldTree) and len(op.reads) > 1:
            # The initial value comes before the whole tree.
            cost = self._cost(f"call {op.kernel}")
            last = bundles.One(bundle.at, bundle.kernel, cost, "call", (self.flow.values[op.reads[1]], value))
            self.live[bundle.at] = last
            self.open.insert(0, last)
            return
        self.flow.give(bundle.at, value)
        self._advance()

    def _resend(self, bundle: bundles.Bundle, work: Work, *, tried: int = 0) -> None:
        again = work.again()
        again.tried += tried
        bundle.again.append(again)
        self._reopen(bundle)

    def _reopen(self, bundle: bundles.Bundle) -> None:
        if bundle not in self.open:
            self.open.insert(0, bundle)
        self.pool.wake()

    def _lost(self, bundle: bundles.Bundle, work: Work, lost: WorkerLost) -> None:
        """Send the calls of a dead worker elsewhere; a call that has cost several workers is not tried on yet
        another.
        """
        work.lost += lost.begun
        if work.lost <= 1:
            self._resend(bundle, work)
        elif work.calls > 1 and isinstance(bundle, bundles.Many):
            halves = bundle.halves(work)
            bundle.again.extend(halves)
            self._reopen(bundle)
        elif work.lost < POOL_DEATHS_MAX:
            self._resend(bundle, work)
        else:
            error = Unavailable(
                f"kernel {work.kernel.name}: {work.lost} workers died while they ran this call ({lost.why})",
                hint="the call may use too much memory or end its process",
            )
            bundle.fail(work, Raised(error, "", 0, "", lost.why, work.kernel.name))

    def _twin(self, bundle: bundles.Bundle, work: Work) -> Work | None:
        for other in bundle.sent.values():
            if other is not work and other.first == work.first and other.calls == work.calls:
                return other
        return None

    def _copy(self, now_ns: int) -> Work | None:
        """A second go at a batch that takes far longer than its like, on a worker that has nothing to do."""
        copies = sum(work.copy_of is not None for bundle in self.live.values() for work in bundle.sent.values())
        if copies >= max(1, self.pool.slots // RUN_COPIES_SHARE):
            return None
        for bundle in self.live.values():
            if bundle.cost.calls < KNOWN_CALLS:
                continue
            for work in bundle.sent.values():
                late_ns = max(STRAGGLER_NS, int(2 * bundle.cost.call_ns * work.calls))
                if now_ns - work.sent_ns > late_ns and work.copy_of is None and self._twin(bundle, work) is None:
                    again = work.again()
                    again.copy_of = work
                    return self._send(bundle, again, now_ns)
        return None

    def _nested(self, at: int, op: Op, state: Any) -> None:
        body = self.module.graphs[op.kernel]
        loop = Loop(op, body, state, self._child, partial(self._nested_done, at))
        self.children.add(loop)
        loop.start()

    def _child(self, graph: Graph, inputs: Mapping[str, Any], then: Callable[[Run], None]) -> Run:
        """A run of another graph of the same program, on the same pool."""
        return Run(
            self.module,
            graph,
            inputs,
            self.pool,
            then=then,
            costs=self.costs,
            speculate=self.speculate,
            copies=self.copies,
            memo=self.memo,
        )

    def _nested_done(self, at: int, child: Loop, error: BaseException | None, value: Any) -> None:
        self.children.discard(child)
        if self.over:
            return
        if error is None:
            self.flow.give(at, value)
            self._advance()
            self.pool.wake()
        elif self.flow.sure(at):
            self._end(error)
        else:
            self.flow.spoil(at, Raised(error, "", 0, "", "in a loop", self.graph.ops[at].kernel))

    def pool_closed(self, error: BaseException) -> None:
        self._end(error)

    def progress(self) -> tuple[int, int]:
        """Calls done and calls known of, for a progress bar. An operation that has not begun counts as one."""
        done, total = self.behind + self.flow.given, self.behind + self.flow.asked - len(self.live)
        for bundle in self.live.values():
            one, all_of_it = bundle.progress()
            done, total = done + one, total + all_of_it
        return done, total


def run(
    module: Module,
    inputs: Mapping[str, Any],
    pool: Pool,
    *,
    watch: Callable[[Run], None] | None = None,
    speculate: bool = True,
    copies: bool = True,
    costs: dict[str, Cost] | None = None,
    memo: Memo | None = None,
) -> Any:
    """The result of the program's main graph, computed on `pool`. Waits; Ctrl-C ends the run's calls and is raised."""
    ended = threading.Event()
    running = Run(
        module,
        module.main,
        inputs,
        pool,
        then=lambda _: ended.set(),
        costs={} if costs is None else costs,
        speculate=speculate,
        copies=copies,
        memo=None if memo is None else RunMemo(memo),
    )
    running.start()
    try:
        if watch is None:
            ended.wait()
        else:
            while not ended.wait(0.1):
                watch(running)
    except BaseException:
        running.cancel()
        raise
    if running.error is not None:
        raise running.error
    return running.result()
