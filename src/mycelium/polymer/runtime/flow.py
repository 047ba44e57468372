"""How far a graph is: what its result needs, what exists already, what can begin.

Needs spread from the output to what it reads, values from what exists to those who read it. Both sides of a `select`
may be needed *perhaps*, until its condition is known. Never: knows of workers, batches or pools.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from mycelium.polymer.program.graph import Graph, Op
from mycelium.polymer.runtime.plan import Plan, plan
from mycelium.polymer.runtime.pool import Raised
from mycelium.polymer.runtime.work import zip_lists

NONE, MAYBE, SURE = 0, 1, 2  # whether the result needs an operation: not, perhaps (a side of a select), certainly
WAITING, READY, LAUNCHED, GIVEN = 0, 1, 2, 3  # the life of an operation
_FREE = frozenset({"input", "const", "zip", "tuple", "item"})  # computed here: no worker would be faster


class Failed(Struct, frozen=True):
    """An operation that the result needs has failed; `first` is the index of the first call that `raised` speaks of."""

    at: int
    first: int
    raised: Raised


class Flow:
    """One graph. `over` when the output exists (`values[graph.output]`) or `failed` says why it never will.

    `abandoned` is called for an operation that is under way and that nobody needs any more; it says whether the
    operation could be stopped.
    """

    def __init__(
        self, graph: Graph, inputs: Mapping[str, Any], speculate: bool, abandoned: Callable[[int], bool]
    ) -> None:
        self.graph, self.inputs, self.speculate, self.abandoned = graph, inputs, speculate, abandoned
        self.plan: Plan = plan(graph)
        self.values: dict[int, Any] = {}
        self.given = 0  # operations that are work, whose value came into being
        self.asked = sum(op.verb not in _FREE for op in graph.ops)
        self.over = False
        self.failed: Failed | None = None
        self._need = bytearray(len(graph.ops))
        self._state = bytearray(len(graph.ops))
        self._missing = [len(set(op.reads)) for op in graph.ops]
        self._uses = list(self.plan.uses)
        self._news: list[tuple[int, Any]] = []  # values that their readers do not know of yet
        self._spoiled: dict[int, Failed] = {}  # operations that failed before anybody surely needed them
        self._ready: list[tuple[int, int, int]] = []  # (speculative, minus the way to the end, operation)
        self._stale = False  # a condition became known: some of what is ready may not be needed

    def start(self) -> None:
        self._demand(self.graph.output, SURE)
        self.advance()

    def give(self, at: int, value: Any) -> None:
        """The value of an operation; its readers hear of it when the flow advances."""
        self._news.append((at, value))

    def sure(self, at: int) -> bool:
        """Whether the result certainly needs this operation."""
        return self._need[at] == SURE

    def spoil(self, at: int, raised: Raised, first: int = 0) -> None:
        """The operation failed. That ends the flow only if its result is surely needed, now or later."""
        failed = Failed(at, first, raised)
        if self.sure(at):
            self._fail(failed)
        else:
            self._spoiled[at] = failed

    def _fail(self, failed: Failed) -> None:
        if not self.over:
            self.over, self.failed = True, failed

    def take(self, speculative: bool) -> int | None:
        """The most urgent operation that can begin, which is then under way. `speculative`: even one that may turn
        out not to be needed.
        """
        while self._ready and (speculative or not self._ready[0][0]):
            perhaps, _, at = heapq.heappop(self._ready)
            if perhaps and self._stale:
                self._refresh()
            if self._state[at] == READY and self._need[at]:
                self._state[at] = LAUNCHED
                return at
        return None

    def has_more_urgent(self, than: int) -> bool:
        """Whether something is ready that is nearer the critical path than this operation."""
        return bool(self._ready) and self._ready[0][:2] < self._urgency(than)

    def _urgency(self, at: int) -> tuple[int, int]:
        return (0 if self._need[at] == SURE else 1, -self.plan.rank[at])

    def advance(self) -> None:
        """Tell the readers of each new value, and theirs, until only workers can bring anything new."""
        ops, users, news = self.graph.ops, self.plan.users, self._news
        while news and not self.over:
            at, value = news.pop()
            self.values[at] = value
            self._state[at] = GIVEN
            self.given += ops[at].verb not in _FREE
            if at == self.graph.output:
                self.over = True
                return
            for user in users[at]:
                op = ops[user]
                if op.verb == "select":
                    if at == op.reads[0] and self._need[user]:
                        self._stale = True
                        self._demand(op.reads[1] if value else op.reads[2], self._need[user])
                    self._select(user, op)
                    continue
                self._missing[user] -= 1
                if self._missing[user] == 0 and self._need[user] and self._state[user] == WAITING:
                    self._begin(user)
            self._release(ops[at])

    def _demand(self, first: int, level: int) -> None:
        """Mark what the result needs. What becomes needed and is ready already is begun, what failed already fails
        now.
        """
        ops, need = self.graph.ops, self._need
        stack = [(first, level)]
        while stack:
            at, level = stack.pop()
            if need[at] >= level:
                continue
            need[at] = level
            op = ops[at]
            if at in self._spoiled and level == SURE:
                self._fail(self._spoiled.pop(at))
                return
            if op.verb != "select":
                if self._state[at] in (WAITING, READY) and self._missing[at] == 0:
                    self._begin(at)
                stack += [(read, level) for read in op.reads]
                continue
            if self._state[at] == WAITING:
                condition, one, other = op.reads
                stack.append((condition, level))
                if condition in self.values:
                    stack.append((one if self.values[condition] else other, level))
                    self._select(at, op)
                elif self.speculate:
                    stack += [(one, MAYBE), (other, MAYBE)]

    def _refresh(self) -> None:
        """After a condition became known: forget what only the other side needed."""
        self._stale = False
        ops, alive = self.graph.ops, bytearray(len(self.graph.ops))
        stack = [self.graph.output]
        while stack:
            at = stack.pop()
            if alive[at] or self._state[at] == GIVEN:
                continue
            alive[at] = 1
            reads = ops[at].reads
            if ops[at].verb == "select" and reads[0] in self.values:
                reads = (reads[1] if self.values[reads[0]] else reads[2],)
            stack += reads
        for at, kept in enumerate(alive):
            if not kept and self._need[at] == MAYBE:
                self._need[at] = NONE
                if self._state[at] == READY or self.abandoned(at):
                    self._state[at] = WAITING

    def _begin(self, at: int) -> None:
        """Everything that the operation reads exists: compute it here if it is free, or line it up for a worker."""
        op = self.graph.ops[at]
        if op.verb not in _FREE:
            self._state[at] = READY
            heapq.heappush(self._ready, (*self._urgency(at), at))
            return
        self._state[at] = LAUNCHED
        try:
            self.give(at, self._free(op))
        except Exception as error:
            self.spoil(at, Raised(error, "", 0, "", "in the program", op.verb))

    def _free(self, op: Op) -> Any:
        match op.verb:
            case "input":
                return self.inputs[op.name]
            case "const":
                return op.value
            case "zip":
                return zip_lists([self.values[read] for read in op.reads])
            case "tuple":
                return tuple([self.values[read] for read in op.reads])
            case _:
                return self.values[op.reads[0]][op.index]

    def _select(self, at: int, op: Op) -> None:
        """The chosen side is the select's value, as soon as both it and the condition exist."""
        condition, first, second = op.reads
        if self._state[at] != WAITING or not self._need[at] or condition not in self.values:
            return
        chosen = first if self.values[condition] else second
        if chosen in self.values:
            self._state[at] = LAUNCHED
            self.give(at, self.values[chosen])

    def _release(self, op: Op) -> None:
        """Values that everybody has read go, so that a long chain of large arrays does not fill the memory."""
        for read in op.reads:
            self._uses[read] -= 1
            if self._uses[read] == 0 and read != self.graph.output:
                self.values.pop(read, None)
