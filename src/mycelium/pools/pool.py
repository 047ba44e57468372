"""A pool: a feeder, the crews that its seats come from, and one thread that hears them.

Never: chooses what runs next (the feeder does), or knows how a seat is made (its crew does).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import selectors
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Protocol, Self

from mycelium.base.errors import Unavailable
from mycelium.polymer.runtime.pool import WorkSource
from mycelium.pools.feeder import Feeder

TICK_S = 0.1  # how often stragglers and dropped work are looked at
LOOK_S = 0.02  # how often whoever waits for all seats looks again


class Crew(Protocol):
    """Where seats come from. Called with the pool's lock held, `begin` and `tend` in the pool's thread."""

    start_s: float  # how long its seats may take to be ready

    @property
    def slots(self) -> int: ...

    def begin(self) -> None:
        """Make the seats that there can be now."""
        ...

    def missing(self) -> str:
        """What is not ready, in words; empty when all are."""
        ...

    def tend(self) -> None:
        """Once each turn: see to what nobody tells."""
        ...

    def close(self) -> None:
        """End all seats at once, and tell the feeder that they are lost."""
        ...


class CrewedPool:
    """Started by the first source, ended by `close` or with this process. Whoever makes one sets `crews`.

    What a socket registered with `selector` brings is handled by the callable beside it, which gets the events.
    """

    trip_ns = 0  # see polymer's `Pool`
    crews: tuple[Crew, ...] = ()

    def __init__(self) -> None:
        self.feeder = Feeder()
        self.lock = self.feeder.lock
        self.detach, self.drop, self.wake = self.feeder.detach, self.feeder.drop, self.feeder.wake
        self.broken = ""  # why the pool has ended by itself
        self.selector = selectors.DefaultSelector()
        self._changed = threading.Condition(self.lock)  # a seat is ready, or none will be
        self._deeds: deque[Callable[[], None]] = deque()
        self._thread: threading.Thread | None = None
        self._swept_s = 0.0
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.selector.register(self._bell, selectors.EVENT_READ, self._hear_bell)
        self.pid = os.getpid()  # it belongs to this process, and to no fork of it

    def _hear_bell(self, mask: int) -> None:
        os.eventfd_read(self._bell)

    @property
    def slots(self) -> int:
        return sum([crew.slots for crew in self.crews]) or 1

    @property
    def closing(self) -> bool:
        return self.feeder.closed

    def start(self) -> None:
        """Start the workers if they are not running. Returns at once; work may be given right away."""
        with self.lock:
            if self.closing:
                raise Unavailable(self.broken or "the pool is closed")
            if self._thread is None:
                # Workers are children of this thread, so that the kernel ends them when it, and with it the process,
                # ends.
                self._thread = threading.Thread(target=self._serve, name="polymer-pool", daemon=True)
                self._thread.start()
                atexit.register(_close_at_exit, weakref.ref(self))

    def wait_ready(self) -> None:
        """Until every worker that there can be is ready. Errors: `Unavailable` when they are not in good time."""
        self.start()
        until = time.monotonic() + max(crew.start_s for crew in self.crews)
        with self._changed:
            while missing := next(filter(None, [crew.missing() for crew in self.crews]), ""):
                if self.closing or time.monotonic() > until:
                    raise Unavailable(f"the workers did not start: {self.broken or missing}")
                self.poke()
                self._changed.wait(LOOK_S)

    def close(self) -> None:
        """End all workers at once; what they hold is lost to whoever waits for it."""
        with self.lock:
            if self.closing:
                return
            self.feeder.closed = True
        self.poke()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        elif self._thread is None:
            self._shut()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What sources say.

    def attach(self, source: WorkSource) -> None:
        with self.lock:
            self.start()  # with the lock: a source that is attached while the pool ends would wait for ever
            self.feeder.attach(source)
            if len(self.feeder.sources) == 1:
                self.poke()  # the pool's thread sleeps without a limit while nobody has work

    def later(self, deed: Callable[[], None]) -> None:
        """Do this soon, in the pool's thread, without its lock: how callbacks of strangers are called."""
        self._deeds.append(deed)
        if threading.current_thread() is not self._thread:
            self.poke()

    # What crews say.

    def news(self) -> None:
        """A seat has become ready."""
        self._changed.notify_all()

    def fail(self, why: str) -> None:
        """Nothing can be done here any more."""
        self.broken, self.feeder.closed = why, True

    def poke(self) -> None:
        """Let the pool's thread look around."""
        with contextlib.suppress(OSError):
            os.eventfd_write(self._bell, 1)

    # The thread.

    def _serve(self) -> None:
        try:
            with self.lock:
                for crew in self.crews:
                    crew.begin()
            while not self.feeder.closed:
                self._turn()
        except Exception as error:  # the top of the thread: whoever waits is told
            self.broken = f"the pool broke: {type(error).__name__}: {error}"
        finally:
            self._shut()

    def _turn(self) -> None:
        events = self.selector.select(TICK_S if self.feeder.restless() else None)
        with self.lock:
            for key, mask in events:
                key.data(mask)
            now_s = time.monotonic()
            if now_s - self._swept_s > TICK_S:
                self._swept_s = now_s
                self.feeder.sweep()
            self.feeder.feed()
            for crew in self.crews:
                crew.tend()
        self._do()

    def _do(self) -> None:
        while self._deeds:
            self._deeds.popleft()()

    def _shut(self) -> None:
        with self.lock:
            self.feeder.closed = True
            for crew in self.crews:
                crew.close()
            self.feeder.close(Unavailable(self.broken or "the pool was closed while it ran this"))
            self.selector.close()
            bell, self._bell = self._bell, -1
            os.close(bell)
            self._changed.notify_all()
        self._do()


def _close_at_exit(pool: weakref.ref[CrewedPool]) -> None:
    held = pool()
    if held is not None and held.pid == os.getpid():
        held.close()
