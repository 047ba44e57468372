"""Drives the core with real time: collects commands, lets the core take its turn, answers callers, sends orders.

Commits block this loop on purpose: nothing else of the process can see a state that is not durable yet, and while one
transaction is written the next batch gathers in the sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from mycelium.base.clock import Clock
from mycelium.base.domain import Asked
from mycelium.base.errors import Exhausted, Problem, Unavailable
from mycelium.base.ids import NodeId
from mycelium.base.limits import BATCH_COMMANDS_MAX, FOLLOWERS_MAX, INBOX_COMMANDS_MAX
from mycelium.base.subject import SITE, Subject
from mycelium.engine.orders import Chunk, Order
from mycelium.engine.seam import Engine
from mycelium.head.core import Core, Tick
from mycelium.head.tails import Tails
from mycelium.log import Snapshot

TICK_S = 0.25
log = logging.getLogger("mycelium.head")


class Head:
    """The head of a site, running."""

    def __init__(self, core: Core, engine: Engine, clock: Clock, refusing: Callable[[], str] = lambda: "") -> None:
        self.core = core
        self.clock = clock
        self.engine = engine
        self.tails = Tails(engine)
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._refusing = refusing
        self._inbox: deque[tuple[Asked, asyncio.Future[Any] | None]] = deque()
        self._wake = asyncio.Event()
        self._followers: dict[str | None, set[asyncio.Event]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = False
        self._saving: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._saving.set_result(None)

    async def start(self) -> None:
        await self.engine.start()
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._run())]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """End the loop, once. What was committed is safe; what waits in the inbox is answered `unavailable`."""
        if self._stopped:
            return
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._refuse_waiting(Unavailable("the head has stopped"))
        await self._saving
        if self.core.log.last_seq and not self.failed.done():
            self._save(self.core.take_snapshot())

    async def ask(self, command: Any, subject: Subject) -> Any:
        """Put a command to the core and wait until its events are durable. Errors: those of its guard and its rule."""
        if len(self._inbox) >= INBOX_COMMANDS_MAX:
            raise Exhausted(f"the head has {len(self._inbox)} commands waiting", hint="try again in a moment")
        if self._stopped or self.failed.done():
            raise Unavailable("the head has stopped", hint="`myc up` starts it again")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._inbox.append((Asked(subject, command), answer))
        self._wake.set()
        return await answer

    @contextlib.contextmanager
    def following(self, about: str | None) -> Any:
        """Yields an event that is set whenever something happened to a job, a node, … (None: to anything)."""
        if sum(map(len, self._followers.values())) >= FOLLOWERS_MAX:
            raise Exhausted(f"the head has {FOLLOWERS_MAX} open event streams", hint="close some, or ask again later")
        changed = asyncio.Event()
        self._followers.setdefault(about, set()).add(changed)
        try:
            yield changed
        finally:
            self._followers[about].discard(changed)
            if not self._followers[about]:
                del self._followers[about]

    async def _listen(self) -> None:
        async for report in self._reports():
            if isinstance(report, Chunk):
                self.tails.heard(report)
            else:
                self._inbox.append((Asked(SITE, report), None))
                self._wake.set()

    def _reports(self) -> AsyncIterator[Any]:
        return self.engine.watch()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), TICK_S)
            await asyncio.sleep(0)  # whoever is ready to ask now joins this turn
            self._wake.clear()
            batch = [self._inbox.popleft() for _ in range(min(len(self._inbox), BATCH_COMMANDS_MAX))]
            if self._inbox:
                self._wake.set()
            self.core.refusing = self._refusing()
            await self._take_turn(batch)

    async def _take_turn(self, batch: list[tuple[Asked, asyncio.Future[Any] | None]]) -> None:
        commands = [asked for asked, _ in batch] or [Asked(SITE, Tick())]
        try:
            turn = self.core.turn(commands, self.clock.now_ns())
        except Problem as problem:
            self._answer_all(batch, problem)
            raise
        for (asked, future), answer in zip(batch, turn.answers, strict=False):
            if answer.problem is not None and future is None:
                log.warning("%s was not taken: %s", type(asked.command).__name__, answer.problem)
            _settle(future, answer.value, answer.problem)
        for node, order in turn.orders:
            await self._send(node, order)
        self._tell_followers(turn.events)
        if self.core.snapshot_due() and self._saving.done():
            self._saving = asyncio.ensure_future(asyncio.to_thread(self._save, self.core.take_snapshot()))

    def _save(self, snapshot: Snapshot) -> None:
        """A snapshot that cannot be kept costs the next start some time, and nothing else."""
        try:
            self.core.log.save_snapshot(snapshot.seq, snapshot.version, snapshot.data)
        except Problem as problem:
            log.warning("no snapshot: %s", problem)

    async def _send(self, node: NodeId, order: Order) -> None:
        try:
            await self.engine.send(node, order)
        except Unavailable as problem:
            log.debug("order to %s waits for its next beat: %s", node, problem)

    def _tell_followers(self, events: list[Any]) -> None:
        if not events or not self._followers:
            return
        touched = {name for event in events for name in self.core.codec.about(event)} | {None}
        for about in touched & self._followers.keys():
            for changed in self._followers[about]:
                changed.set()

    def _answer_all(self, batch: list[tuple[Asked, asyncio.Future[Any] | None]], problem: Problem) -> None:
        for _, future in batch:
            _settle(future, None, problem)
        self._refuse_waiting(problem)

    def _refuse_waiting(self, problem: Problem) -> None:
        while self._inbox:
            _settle(self._inbox.popleft()[1], None, problem)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A loop that ends by itself has failed, and the process must not go on without it."""
        if not task.cancelled() and not self.failed.done():
            error = task.exception() or RuntimeError("a loop of the head ended")
            self.failed.set_exception(error)
            problem = error if isinstance(error, Problem) else Unavailable("the head has failed", hint="see its log")
            self._refuse_waiting(problem)


def _settle(future: asyncio.Future[Any] | None, value: Any, problem: Problem | None) -> None:
    if future is None or future.done():
        return
    if problem is not None:
        future.set_exception(problem)
    else:
        future.set_result(value)
