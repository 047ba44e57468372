"""What a runtime needs of a pool, whatever engine it belongs to.

A pool pulls: whenever a worker can take more, it asks its sources for the next `Work`, so the size of a batch and the
order of operations are decided as late as possible. All methods of a source are called with the pool's lock held and
never block.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from mycelium.polymer.kernel import Kernel


class Shared:
    """A value that many batches need: a pool carries it to each worker at most once, while this object lives."""

    __slots__ = ("__weakref__", "value")

    def __init__(self, value: Any) -> None:
        self.value = value


class Work:
    """One batch: what a worker does in one go.

    `how` is `call each some fold trees scan loop`; `values` are its arguments, whose `Shared` ones are carried once.
    `calls` is how many calls it stands for, `cost_ns` what it should take (0: not known), `place` what the source
    wants to remember of it. `copy_of` is set on a straggler's copy.
    """

    __slots__ = (
        "calls",
        "copy_of",
        "cost_ns",
        "each",
        "first",
        "how",
        "kernel",
        "lost",
        "place",
        "sent_ns",
        "test",
        "ticket",
        "tried",
        "values",
    )

    def __init__(
        self,
        how: str,
        kernel: Kernel,
        values: Sequence[Any],
        *,
        calls: int = 1,
        first: int = 0,
        cost_ns: int = 0,
        place: Any = None,
        each: Kernel | None = None,
        test: Kernel | None = None,
    ) -> None:
        self.how, self.kernel, self.values = how, kernel, values
        self.calls, self.first, self.cost_ns, self.place = calls, first, cost_ns, place
        self.each, self.test = each, test
        self.ticket = 0
        self.sent_ns = 0
        self.lost = 0  # workers that died holding it
        self.tried = 0  # times that it raised
        self.copy_of: Work | None = None

    def again(self) -> Work:
        """The same batch, to be sent once more."""
        new = Work(
            self.how,
            self.kernel,
            self.values,
            calls=self.calls,
            first=self.first,
            cost_ns=self.cost_ns,
            place=self.place,
            each=self.each,
            test=self.test,
        )
        new.lost, new.tried = self.lost, self.tried
        if new.lost:
            new.cost_ns = 0  # nothing is sent along with what may have killed a worker
        return new


class BatchDone:
    """The batch is done. `spent_ns` is the worker's own time, `chosen` what it called of kernels of several forms:
    kernel, form, device kind, calls, nanoseconds.
    """

    __slots__ = ("chosen", "spent_ns", "value")

    def __init__(self, value: Any, spent_ns: int, chosen: Sequence[tuple[str, str, str, int, int]] = ()) -> None:
        self.value, self.spent_ns, self.chosen = value, spent_ns, chosen


class Raised:
    """A call of the batch raised. `trace` is the worker's traceback as text."""

    __slots__ = ("error", "index", "input_hash", "kernel", "trace", "where")

    def __init__(self, error: BaseException, trace: str, index: int, input_hash: str, where: str, kernel: str) -> None:
        self.error, self.trace, self.index, self.input_hash, self.where = error, trace, index, input_hash, where
        self.kernel = kernel


class WorkerLost:
    """The worker died before it answered. `begun`: it may have been at this batch when it died."""

    __slots__ = ("begun", "why")

    def __init__(self, why: str, begun: bool) -> None:
        self.why, self.begun = why, begun


Outcome = BatchDone | Raised | WorkerLost


class WorkSource(Protocol):
    def next(self, now_ns: int, idle: bool) -> Work | None:
        """The next batch, or None when nothing is ready. `idle`: the asking worker has nothing else to do."""
        ...

    def done(self, work: Work, outcome: Outcome, now_ns: int) -> None: ...

    def pool_closed(self, error: BaseException) -> None:
        """No work is taken any more, and what is on the way is lost."""
        ...


class Pool(Protocol):
    @property
    def slots(self) -> int: ...

    @property
    def trip_ns(self) -> int:
        """What a batch costs on its way, where that is much; there workers know `some`, a map's batch of which they
        may answer with the first results only. Else 0.
        """
        ...

    @property
    def lock(self) -> AbstractContextManager[Any]: ...

    def attach(self, source: WorkSource) -> None:
        """Begin to ask this source for work."""
        ...

    def detach(self, source: WorkSource) -> None:
        """Never ask this source again, and drop what it still has on the way."""
        ...

    def wake(self) -> None:
        """Something may be ready that was not before."""
        ...

    def drop(self, work: Work) -> None:
        """Nobody waits for this batch any more."""
        ...
