"""`Executor`: concurrent.futures on a pool, as a drop-in for ProcessPoolExecutor without its chunk sizes.

Callbacks of futures run in the pool's thread, as they do in the standard library.
"""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ParamSpec, TypeVar

from mycelium.base.limits import POOL_DEATHS_MAX
from mycelium.polymer import outside
from mycelium.polymer.function import as_kernel
from mycelium.polymer.here import chosen
from mycelium.polymer.kernel import Kernel
from mycelium.polymer.program.trace import Trace, map_
from mycelium.polymer.runtime.bundle import Many
from mycelium.polymer.runtime.costs import Cost
from mycelium.polymer.runtime.dataflow import Run
from mycelium.polymer.runtime.failure import failure
from mycelium.polymer.runtime.pool import BatchDone, Outcome, Raised, Work, WorkerLost
from mycelium.polymer.schema.types import ANY, ListOf, Param

P = ParamSpec("P")
R = TypeVar("R")


class _Calls:
    """Single calls as a source of work, first come first served."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.waiting: deque[Work] = deque()
        self.costs: dict[int, Cost] = {}
        self.pending = 0
        self.attached = False
        self.empty = threading.Condition(pool.lock)

    def add(self, future: concurrent.futures.Future[Any], kernel: Kernel, args: tuple[Any, ...]) -> None:
        cost = self.costs.setdefault(id(kernel), Cost())
        work = Work("call", kernel, args, cost_ns=int(cost.call_ns), place=(future, cost))
        with self.pool.lock:
            self.pending += 1
            self.waiting.append(work)
            if self.attached:
                self.pool.wake()
            else:
                self.attached = True
                self.pool.attach(self)

    def next(self, now_ns: int, idle: bool) -> Work | None:
        while self.waiting:
            work = self.waiting.popleft()
            future = work.place[0]
            if future.running() or future.set_running_or_notify_cancel():  # running: its worker was lost
                return work
            self._less()
        return None

    def done(self, work: Work, outcome: Outcome, now_ns: int) -> None:
        future, cost = work.place
        match outcome:
            case BatchDone():
                cost.measured(1, outcome.spent_ns)
                value = outcome.value
                self.pool.later(lambda: future.set_result(value))
            case Raised():
                if work.tried < work.kernel.retries:
                    work.tried += 1
                    self.waiting.appendleft(work.again())
                    return
                error = failure(outcome, 0, False)
                self.pool.later(lambda: future.set_exception(error))
            case WorkerLost(why=why, begun=begun):
                work.lost += begun
                if work.lost < POOL_DEATHS_MAX:
                    self.waiting.appendleft(work.again())
                    self.pool.wake()
                    return
                broken = concurrent.futures.BrokenExecutor(f"{work.lost} workers died while they ran this call: {why}")
                self.pool.later(lambda: future.set_exception(broken))
        self._less()

    def pool_closed(self, error: BaseException) -> None:
        for work in self.waiting:
            future = work.place[0]
            if not future.cancel():  # it was running when its worker was ended
                future.set_exception(concurrent.futures.BrokenExecutor(str(error)))
        self.waiting.clear()
        self.pending = 0
        self.empty.notify_all()

    def _less(self) -> None:
        self.pending -= 1
        if self.pending == 0:
            self.empty.notify_all()


class Executor(concurrent.futures.Executor):
    """Calls on worker processes of this machine. Functions need not be importable: lambdas and closures are carried
    too.
    """

    def __init__(self, max_workers: int | None = None, *, pool: Any = None) -> None:
        pool = chosen() if pool is None and max_workers is None else pool
        self.own = pool is None
        self.pool = outside.local_pool(max_workers) if pool is None else pool
        self.calls = _Calls(self.pool)
        self.closed = False

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> concurrent.futures.Future[R]:
        if self.closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: concurrent.futures.Future[R] = concurrent.futures.Future()
        if kwargs:
            self.calls.add(future, as_kernel(_with_names).kernel, (fn, args, kwargs))
        else:
            self.calls.add(future, as_kernel(fn).kernel, args)
        return future

    def map(
        self, fn: Callable[..., R], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[R]:
        """As in the standard library; `chunksize` is accepted and not needed, and results come while others still
        run.
        """
        if self.closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        columns = [list(iterable) for iterable in iterables]
        shortest = min(map(len, columns), default=0)
        end = None if timeout is None else time.monotonic() + timeout
        return _Results(self.pool, fn, [column[:shortest] for column in columns], end).read() if shortest else iter(())

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.closed = True
        with self.pool.lock:
            if cancel_futures:
                for work in self.calls.waiting:
                    work.place[0].cancel()
            while wait and self.calls.pending and not self.pool.closing:
                self.pool.wake()
                self.calls.empty.wait()
        if self.own and wait:
            self.pool.close()
        elif self.own:
            threading.Thread(target=self.shutdown, daemon=False).start()


def _with_names(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)


class _Results:
    """The results of one map, in order, as they come."""

    def __init__(self, pool: Any, fn: Callable[..., Any], columns: list[list[Any]], end: float | None) -> None:
        trace = Trace("map")
        names = [f"x{number}" for number in range(len(columns))]
        inputs = [trace.input(Param(name, ListOf(ANY))) for name in names]
        module = trace.finish(map_(trace, as_kernel(fn).kernel, inputs))
        self.pool, self.end = pool, end
        self.changed = threading.Condition(pool.lock)
        given = dict(zip(names, columns, strict=True))
        self.run = Run(module, module.main, given, pool, then=self._over, costs={}, heard=self._heard)
        self.at = module.main.output
        self.bundle: Many | None = None
        self.run.start()

    def _over(self, run: Run) -> None:
        self.changed.notify_all()

    def _heard(self, bundle: Any) -> None:
        self.bundle = bundle
        self.changed.notify_all()

    def read(self) -> Iterator[Any]:
        try:
            first = 0
            while (part := self._part(first)) is not None:
                first += len(part)
                yield from part
        finally:
            self.run.cancel()

    def _part(self, first: int) -> list[Any] | None:
        with self.changed:
            while True:
                if self.bundle is not None:
                    if first in self.bundle.parts:
                        return self.bundle.parts[first]
                    if first >= self.bundle.total:
                        return None
                if self.run.error is not None:
                    raise self.run.error
                left = None if self.end is None else self.end - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError
                self.changed.wait(left)
