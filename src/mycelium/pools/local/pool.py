"""A pool of worker processes on this machine.

Whoever has work sends it in its own thread; one thread of the pool reads the answers. Workers are started together,
once, and replaced when they die. Never: chooses sizes of batches or what to run next; the sources do.
"""

from __future__ import annotations

import atexit
import contextlib
import mmap
import os
import pickle
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mycelium.base.errors import Refused, Unavailable
from mycelium.base.limits import POOL_KERNELS_MAX, POOL_WORKERS_MAX
from mycelium.polymer.here import IN_WORKER
from mycelium.polymer.kernel import Kernel, LivePython
from mycelium.polymer.runtime.pool import Given, Lost, Raised, Shared, Source, Work
from mycelium.pools.local import wire
from mycelium.pools.local.seat import Seat
from mycelium.pools.local.worker import Told

TICK_S = 0.1  # how often stragglers and dropped work are looked at
START_S = 30.0
STARTS_MAX = 5  # workers in a row that end before they are ready, until the pool gives up
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_BOOT = (
    "import sys; sys.path[:] = eval(sys.argv[4]); "
    "from mycelium.pools.local import worker; worker.main(*map(int, sys.argv[1:4]))"
)


class LocalPool:
    """Worker processes on this machine; started by the first source, ended by `close` or with this process.

    Cost: a two-worker pool is up in a tenth of a second; a tiny call and its answer take about a tenth of a
    millisecond.
    """

    trip_ns = 0  # a tenth of a millisecond is not much
    dropped_ns = 1_000_000_000  # a worker that is busy for nobody is replaced after this

    def __init__(self, workers: int | None = None) -> None:
        count = workers if workers is not None else len(os.sched_getaffinity(0))
        if not 1 <= count <= POOL_WORKERS_MAX:
            raise Refused(f"a pool of {count} workers; it can have 1 to {POOL_WORKERS_MAX}")
        self.count = count
        self.lock = threading.RLock()
        self.seats: list[Seat] = []
        self.sources: deque[Source] = deque()
        self.numbers: dict[int, tuple[Any, int]] = {}  # id of a kernel or shared value: (what keeps it, its number)
        self.forgotten: deque[int] = deque()
        self.deeds: deque[Callable[[], None]] = deque()
        self.feeding = False
        self.swept_ns = 0
        self.next_number = 1
        self.next_ticket = 1
        self.thread: threading.Thread | None = None
        self.closing = False
        self.pid = os.getpid()
        self.failed_starts = 0
        self.ready_s = time.monotonic()
        self.broken = ""
        self.selector = selectors.DefaultSelector()
        self.wake_read, self.wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.selector.register(self.wake_read, selectors.EVENT_READ, None)
        self.started = threading.Event()

    @property
    def slots(self) -> int:
        return self.count

    def start(self) -> None:
        """Start the workers if they are not running. Returns at once; work may be given right away."""
        with self.lock:
            if self.closing:
                raise Unavailable(self.broken or "the pool is closed")
            if self.thread is None:
                # Workers are children of this thread, so that the kernel ends them when it, and with it the process,
                # ends.
                self.thread = threading.Thread(target=self._serve, name="polymer-pool", daemon=True)
                self.thread.start()
                atexit.register(_close_at_exit, weakref.ref(self))

    def wait_ready(self) -> None:
        """Until every worker has said that it is up. Errors: `Unavailable` when they cannot be started."""
        self.start()
        limit = time.monotonic() + START_S
        while not (self.started.wait(0.05) and all(seat.ready for seat in self.seats)):
            if self.broken or time.monotonic() > limit:
                raise Unavailable(f"the workers did not start: {self.broken or f'not ready after {START_S:.0f} s'}")

    def close(self) -> None:
        """End all workers at once; what they hold is lost to whoever waits for it."""
        with self.lock:
            if self.closing:
                return
            self.closing = True
        self._poke()
        if self.thread is not None and self.thread is not threading.current_thread():
            self.thread.join()
        elif self.thread is None:
            self._shut()

    def __enter__(self) -> LocalPool:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def busy(self) -> bool:
        return any(seat.held for seat in self.seats)

    def _poke(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self.wake_write, b"x")

    def _serve(self) -> None:
        try:
            with self.lock:
                for _ in range(self.count):
                    self.seats.append(self._spawn())
                self.started.set()
            while not self.closing:
                self._turn()
        except Exception as error:  # the top of the thread: whoever waits is told
            self.broken = f"the pool broke: {type(error).__name__}: {error}"
        finally:
            self._shut()

    def _turn(self) -> None:
        ready = self.selector.select(TICK_S if self.sources or self.forgotten or self.busy() else None)
        with self.lock:
            for key, mask in ready:
                seat: Seat | None = key.data
                if seat is None:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self.wake_read, 4096)
                    continue
                if mask & selectors.EVENT_WRITE:
                    self._flush(seat)
                if mask & selectors.EVENT_READ:
                    self._read(seat)
            now_ns = time.monotonic_ns()
            if now_ns - self.swept_ns > TICK_S * 1e9:
                self.swept_ns = now_ns
                self._sweep()
            self._feed()
        while self.deeds:
            self.deeds.popleft()()

    def _spawn(self) -> Seat:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * wire.PACKET_BYTES_MAX)
        ours.setblocking(False)
        mark = os.memfd_create("mycelium-mark")
        os.ftruncate(mark, mmap.PAGESIZE)
        path = repr([entry or str(Path.cwd()) for entry in sys.path])
        process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, str(theirs.fileno()), str(mark), str(os.getpid()), path],
            pass_fds=(theirs.fileno(), mark),
            process_group=0,
            env=_environment(self.count),
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        seat = Seat(process, ours, mmap.mmap(mark, mmap.PAGESIZE))
        os.close(mark)
        self.selector.register(ours, selectors.EVENT_READ, seat)
        return seat

    def _shut(self) -> None:
        with self.lock:
            self.closing = True
            for seat in self.seats:
                _kill(seat.process)
            for seat in self.seats:
                seat.process.wait()
                self._vacate(seat, "was ended with its pool")
            self.seats = []
            for source in list(self.sources):
                cancel = getattr(source, "pool_closed", None)
                if cancel is not None:
                    cancel(Unavailable(self.broken or "the pool was closed while it ran this"))
            self.sources.clear()
            self.selector.close()
            for fd in (self.wake_read, self.wake_write):
                os.close(fd)
            self.started.set()

    def _read(self, seat: Seat) -> None:
        while True:
            try:
                message = seat.inbox.read()
            except BlockingIOError:
                return
            if message is None:
                self._dead(seat)
                return
            if message.kind == wire.READY:
                seat.ready = True
                self.failed_starts = 0
                self.ready_s = time.monotonic()
                continue
            try:
                replies = message.load()
            except Exception as error:  # a result that only the worker understands
                told = Raised(error, "", 0, "", "reading the result", "")
                replies = [(message.first + at, told) for at in range(message.count)]
            now_ns = time.monotonic_ns()
            for ticket, told in replies:
                self._answer(seat, ticket, told, now_ns)

    def _answer(self, seat: Seat, ticket: int, told: Any, now_ns: int) -> None:
        source, work = seat.take(ticket)
        if source is None:
            return
        if isinstance(told, Told):
            source.done(work, _raised(told, work), now_ns)
        elif isinstance(told, Raised):
            told.kernel = work.kernel.name
            source.done(work, told, now_ns)
        else:
            source.done(work, Given(*told), now_ns)

    def _dead(self, seat: Seat) -> None:
        """Put a new worker in the place of one that is gone, and tell those who wait for its calls."""
        _kill(seat.process)
        why = f"worker {seat.process.pid} {_ending(seat.process.wait())}"
        if seat in self.seats:
            self.seats.remove(seat)
        if seat.ready:
            self.ready_s = time.monotonic()
        elif seat.process.returncode != -signal.SIGKILL:  # killing is somebody else's doing
            self.failed_starts += 1
        if self.failed_starts > STARTS_MAX or (
            not seat.ready and time.monotonic() - self.ready_s > START_S and not any(one.ready for one in self.seats)
        ):
            self.broken, self.closing = f"{why} before it was ready", True
        if not self.closing:
            self.seats.append(self._spawn())
        self._vacate(seat, why)

    def _vacate(self, seat: Seat, why: str) -> None:
        with contextlib.suppress(KeyError):
            self.selector.unregister(seat.sock)
        seat.sock.close()
        for packet in seat.outbox:
            packet.close()
        begun = seat.begun()
        seat.mark.close()
        now_ns = time.monotonic_ns()
        for ticket in list(seat.held):
            source, work = seat.take(ticket)
            if source is not None:
                source.done(work, Lost(why, ticket in begun), now_ns)

    def _sweep(self) -> None:
        """Replace workers that have been busy for nobody for a while."""
        now_ns = time.monotonic_ns()
        for seat in list(self.seats):
            if not seat.held or any(source is not None for source, _ in seat.held.values()):
                seat.idle_ns = 0
            elif seat.idle_ns == 0:
                seat.idle_ns = now_ns
            elif now_ns - seat.idle_ns > self.dropped_ns:
                self._dead(seat)
        while self.forgotten:
            number = self.forgotten.popleft()
            for seat in self.seats:
                if number in seat.knows:
                    seat.knows.discard(number)
                    self._post(seat, wire.encode(wire.FORGET, [number]))

    def attach(self, source: Source) -> None:
        with self.lock:
            self.start()  # with the lock: a source that is attached while the pool ends would wait for ever
            self.sources.append(source)
            if len(self.sources) == 1:
                self._poke()  # the pool's thread sleeps without a limit while nobody has work
            self._feed()

    def detach(self, source: Source) -> None:
        with self.lock:
            with contextlib.suppress(ValueError):
                self.sources.remove(source)
            for seat in self.seats:
                seat.forget(source)

    def drop(self, work: Work) -> None:
        with self.lock:
            for seat in self.seats:
                seat.drop(work)

    def wake(self) -> None:
        with self.lock:
            self._feed()

    def later(self, deed: Callable[[], None]) -> None:
        """Do this soon, in the pool's thread, without its lock: how callbacks of strangers are called."""
        self.deeds.append(deed)

    def _feed(self) -> None:
        """Give work to every worker that can take more, idle ones first, from the sources in turn."""
        if self.feeding or self.closing:
            return  # a source that wakes the pool while it is asked
        self.feeding = True
        try:
            while self.sources:
                seat = min((seat for seat in self.seats if seat.room()), key=Seat.load, default=None)
                if seat is None or not self._ask(seat):
                    return
        finally:
            self.feeding = False

    def _ask(self, seat: Seat) -> bool:
        now_ns = time.monotonic_ns()
        for _ in range(len(self.sources)):
            source = self.sources[0]
            self.sources.rotate(-1)
            work = source.next(now_ns, not seat.held)
            if work is not None:
                self._give(self._familiar(seat, work), source, work, now_ns)
                return True
            if not self.sources:
                break
        return False

    def _familiar(self, seat: Seat, work: Work) -> Seat:
        """Of several idle workers the one that knows the kernel: it has it compiled, and what it imports loaded."""
        entry = self.numbers.get(id(work.kernel))
        if entry is None or seat.held or entry[1] in seat.knows:
            return seat
        return next((other for other in self.seats if not other.held and entry[1] in other.knows), seat)

    def _give(self, seat: Seat, source: Source, work: Work, now_ns: int) -> None:
        ticket = self.next_ticket
        self.next_ticket = (ticket + 1) & 0x7FFFFFFF
        try:
            packet = wire.encode(wire.WORK, [self._line(seat, work)], ticket, 1)
        except Exception as error:  # whatever pickling somebody's value raises
            error.add_note(f"while the call was packed for a worker: kernel {work.kernel.name}")
            source.done(work, Raised(error, "", 0, "", "packing the call", work.kernel.name), now_ns)
            return
        seat.put(ticket, source, work)
        self._post(seat, packet)

    def _line(self, seat: Seat, work: Work) -> tuple[Any, ...]:
        """What travels of a batch; kernels and shared values that the worker does not know yet go ahead of it."""
        values = work.values
        if work.how in ("each", "some"):
            columns, shared = values
            values = (columns, [(at, self._known(seat, one, wire.SHARED)) for at, one in shared])
        return (
            work.how,
            self._known(seat, work.kernel, wire.KERNEL),
            values,
            0 if work.each is None else self._known(seat, work.each, wire.KERNEL),
            0 if work.test is None else self._known(seat, work.test, wire.KERNEL),
        )

    def _known(self, seat: Seat, thing: Kernel | Shared, kind: int) -> int:
        entry = self.numbers.get(id(thing))
        if entry is None:
            entry = self._enter(thing)
        number = entry[1]
        if number not in seat.knows:
            packet = wire.encode(kind, thing.value if isinstance(thing, Shared) else _carried(thing), number)
            seat.knows.add(number)
            self._post(seat, packet)
        return number

    def _enter(self, thing: Kernel | Shared) -> tuple[Any, int]:
        number, self.next_number = self.next_number, self.next_number + 1
        if isinstance(thing, Shared):
            self.numbers[id(thing)] = entry = (None, number)
            weakref.finalize(thing, self._forget, id(thing), number).atexit = False
            return entry
        if len(self.numbers) >= POOL_KERNELS_MAX:
            oldest = next((key for key, (held, _) in self.numbers.items() if held is not None), None)
            if oldest is not None:
                self._forget(oldest, self.numbers[oldest][1])
        self.numbers[id(thing)] = entry = (thing, number)
        return entry

    def _forget(self, key: int, number: int) -> None:
        self.numbers.pop(key, None)
        self.forgotten.append(number)

    def _post(self, seat: Seat, packet: wire.Packet) -> None:
        if not seat.outbox:
            try:
                packet.send(seat.sock)
                return
            except BlockingIOError:
                self.selector.modify(seat.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, seat)
            except OSError:
                packet.close()  # the worker is gone; the pool's thread hears of it by itself
                return
        seat.outbox.append(packet)

    def _flush(self, seat: Seat) -> None:
        while seat.outbox:
            try:
                seat.outbox[0].send(seat.sock)
            except BlockingIOError:
                return
            except OSError:
                seat.outbox[0].close()
            seat.outbox.popleft()
        if seat in self.seats:
            self.selector.modify(seat.sock, selectors.EVENT_READ, seat)


def _raised(told: Told, work: Work) -> Raised:
    try:
        error = pickle.loads(told.error) if told.error else None
    except Exception:  # an error whose class cannot be read here is told as text
        error = None
    if not isinstance(error, BaseException):
        error = RuntimeError(told.shown)
    return Raised(error, told.trace, told.index, told.input_hash, told.where, told.kernel or work.kernel.name)


def _carried(kernel: Kernel) -> tuple[str, Any]:
    """Name and body: a plain function goes as it is, so that the worker need not know what a kernel is."""
    first = kernel.forms[0]
    return kernel.name, first.function if isinstance(first, LivePython) and len(kernel.forms) == 1 else kernel


def _environment(workers: int) -> dict[str, str]:
    """The caller's own. Unless the caller says otherwise, the threads of numeric libraries are divided among the
    workers, and large blocks of memory come in large pages: finding small ones takes longer than filling them.
    """
    share = str(max(1, len(os.sched_getaffinity(0)) // workers))
    return {**dict.fromkeys(_THREADS, share), "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", **os.environ, IN_WORKER: "1"}


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()


def _close_at_exit(pool: weakref.ref[LocalPool]) -> None:
    held = pool()
    if held is not None and held.pid == os.getpid():
        held.close()
