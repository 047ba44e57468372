"""A pool whose workers are actors of Ray, on any of its nodes; Ray itself is in a child process, the driver.

To this side a worker is what it is on one machine: a socket, with large arrays in memory that is shared with the
driver. A worker or node that is lost loses its calls, a driver or a Ray that is lost loses those of all workers; they
are sent again when there are workers again, for as long as patience lasts.

Never: imports Ray, or waits without a bound.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mycelium.base.errors import Refused, Unavailable
from mycelium.base.limits import POOL_WORKERS_MAX
from mycelium.polymer.kernel import Kernel
from mycelium.polymer.runtime.pool import Shared, Work
from mycelium.pools.local import memory, wire
from mycelium.pools.local.pool import LocalPool
from mycelium.pools.local.seat import AHEAD_COUNT_MAX, Seat
from mycelium.pools.ray import messages
from mycelium.pools.ray.messages import Found, Gone, Join, Open
from mycelium.pools.ray.offer import Offer

PATIENCE_S = 90.0  # without any worker, while work waits: as long as a site's Ray may take to be built again
JOIN_S = 40.0  # for a driver to find Ray
RETRY_S_MIN, RETRY_S_MAX = 0.2, 5.0
AHEAD_NS = 6_000_000  # several round trips: a worker never waits for us
END_S = 3.0


class RayPool(LocalPool):
    """Workers on the nodes of a running Ray, one per cpu of Ray's unless `nodes` says how many where.

    `here`: so many workers of this machine's own beside them, which Ray knows nothing of and which do not wait for it.
    `nodes` names the others by Ray's id, by address or by a site's name for the machine. The calling machine must be
    one of Ray's. Modules that functions are imported from must be there on every node; Mycelium must be the same.
    Errors: whoever runs something gets `Unavailable` when there was no worker for `patience_s`.
    """

    trip_ns = 500_000
    dropped_ns = 10_000_000_000  # a new worker takes seconds, and on a busy node so do the imports of its first call

    def __init__(
        self,
        address: str | Callable[[], Offer],
        *,
        nodes: Mapping[str, int] | None = None,
        here: int = 0,
        patience_s: float = PATIENCE_S,
    ) -> None:
        super().__init__(max(here, 1))
        self._here = here
        if address == "" or (isinstance(address, str) and address.startswith("ray://")):
            raise Refused(f"{address!r} is no address of Ray's own", hint="HOST:PORT, as `ray start --head` prints it")
        self._offer = address if callable(address) else lambda: Offer(address)
        self._wanted = dict(nodes or {})
        if not all(0 < slots <= POOL_WORKERS_MAX for slots in self._wanted.values()):
            raise Refused(f"a node of a pool can have 1 to {POOL_WORKERS_MAX} workers")
        self._patience_s = patience_s
        self._driver: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._slots: dict[str, int] = {}  # what the driver has found
        self._not_before: dict[str, float] = {}  # nodes whose workers end before they are ready wait a little
        self._pauses: dict[str, float] = {}
        self._began_s = 0.0
        self._joined = False
        self._next_seat = 1
        self._why: dict[int, str] = {}
        self._last_why = "Ray does not answer"
        self._lent: dict[int, tuple[Any, Any]] = {}  # arrays of batches that are under way, and their shared copies
        self._packed: dict[int, wire.Packet] = {}  # shared values, by number

    @property
    def slots(self) -> int:
        return min(self._here + sum(self._slots.values()), POOL_WORKERS_MAX) or 1

    @property
    def driver_pid(self) -> int:
        """The process that Ray knows as the driver of this pool; 0 while there is none."""
        return self._driver.pid if self._driver is not None else 0

    def wait_ready(self) -> None:
        """Until every worker that there can be is there. Errors: `Unavailable` when there is none for too long."""
        self.start()
        until = time.monotonic() + self._patience_s + JOIN_S
        while not (self.seats and len(self.seats) == self.slots and all(seat.ready for seat in self.seats)):
            if self.closing or time.monotonic() > until:
                raise Unavailable(self.broken or f"no worker of Ray is ready: {self._last_why}")
            self._poke()
            time.sleep(0.02)

    def _serve(self) -> None:
        self.ready_s = time.monotonic()
        self.count = self._here  # the others are seated when the driver has said where
        super()._serve()

    def _turn(self) -> None:
        with self.lock:
            self._mind_driver()
            self._mind_seats()
            self._mind_patience()
        if not self.closing:
            super()._turn()

    # The driver.

    def _mind_driver(self) -> None:
        if self._driver is None:
            if time.monotonic() >= self._not_before.get("", 0):
                self._start_driver()
            return
        self._listen()
        if self._driver is None:
            return
        if self._driver.poll() is not None or (not self._joined and time.monotonic() - self._began_s > JOIN_S):
            self._end_driver()

    def _start_driver(self) -> None:
        try:
            offer = self._offer()
        except (OSError, Unavailable) as error:
            self._last_why = str(error)
            self._pause("")
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            self._driver = subprocess.Popen(
                [sys.executable, "-P", "-m", "mycelium.pools.ray.driver", str(theirs.fileno()), str(os.getpid())],
                pass_fds=(theirs.fileno(),),
                process_group=0,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(_path()), **_SETTINGS, **offer.environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._control, self._began_s, self._joined = ours, time.monotonic(), False
        self.selector.register(ours, selectors.EVENT_READ, None)
        self._say(Join(offer.address, self._wanted, tuple(_path())))

    def _listen(self) -> None:
        while self._control is not None:
            try:
                data = self._control.recv(1 << 20)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._end_driver()
                return
            match messages.to_pool.decode(data):
                case Found(slots=slots):
                    self._slots, self._joined = slots, True
                    self._pauses.pop("", None)
                case Gone(seat=seat, why=why):
                    self._last_why = why
                    if seat:
                        self._why[seat] = why

    def _end_driver(self) -> None:
        """Ray, or the driver alone, is gone: all that was under way is lost."""
        if self._driver is None or self._control is None:
            return
        self.selector.unregister(self._control)
        self._control.close()
        self._driver.kill()
        self._driver.wait()
        self._driver = self._control = None
        self._slots = {}
        self._pause("")
        for seat in [seat for seat in self.seats if isinstance(seat, _RaySeat)]:
            self._dead(seat)

    def _say(self, message: messages.ToDriver, *fds: int) -> bool:
        assert self._control is not None
        try:
            socket.send_fds(self._control, [messages.pack(message)], fds)
        except OSError:  # it is gone, which is heard of by itself
            return False
        return True

    # Workers.

    def _mind_seats(self) -> None:
        """A worker for each slot that has none."""
        if self._control is None:
            return
        for node, slots in self._slots.items():
            missing = slots - sum(seat.node == node for seat in self.seats if isinstance(seat, _RaySeat))
            if missing and time.monotonic() < self._not_before.get(node, 0):
                continue
            for _ in range(min(missing, POOL_WORKERS_MAX - len(self.seats))):
                self._seat_on(node)

    def _seat_on(self, node: str) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * wire.PACKET_BYTES_MAX)
        ours.setblocking(False)
        mark = os.memfd_create("mycelium-mark")
        os.ftruncate(mark, mmap.PAGESIZE)
        number, self._next_seat = self._next_seat, self._next_seat + 1
        seat = _RaySeat(number, node, ours, mmap.mmap(mark, mmap.PAGESIZE))
        with theirs:
            self._say(Open(number, node), theirs.fileno(), mark)
        os.close(mark)
        self.selector.register(ours, selectors.EVENT_READ, seat)
        self.seats.append(seat)

    def _dead(self, seat: Seat) -> None:
        """Tell those who wait for the calls of a worker that is gone; another one is seated when there can be one."""
        if seat not in self.seats:
            return
        if not isinstance(seat, _RaySeat):
            super()._dead(seat)
            return
        if self._control is not None:
            self._listen()  # why it has ended is said before its socket is closed
            if seat not in self.seats:
                return
        self.seats.remove(seat)
        if not seat.ready:
            self._pause(seat.node)
        why = self._why.pop(seat.number, "was lost")
        self._vacate(seat, f"worker {seat.number} of Ray: {why}")
        self._poke()

    def _read(self, seat: Seat) -> None:
        if seat in self.seats:  # else its driver was found to be gone a moment ago
            super()._read(seat)

    def _flush(self, seat: Seat) -> None:
        if seat in self.seats:
            super()._flush(seat)

    def _pause(self, what: str) -> None:
        self._pauses[what] = min(RETRY_S_MAX, max(RETRY_S_MIN, 2 * self._pauses.get(what, 0)))
        self._not_before[what] = time.monotonic() + self._pauses[what]

    def _mind_patience(self) -> None:
        now = time.monotonic()
        for seat in self.seats:
            if seat.ready and isinstance(seat, _RaySeat):
                self._pauses.pop(seat.node, None)
        if not self.sources or any(seat.ready for seat in self.seats):
            self.ready_s = now
        elif now - self.ready_s > self._patience_s:
            self.broken = f"no worker of Ray for {self._patience_s:g} s: {self._last_why}"
            self.closing = True

    # Values.

    def _line(self, seat: Seat, work: Work) -> tuple[Any, ...]:
        if work.how == "call":
            line = super()._line(seat, work)
            return line[0], line[1], tuple(self._lend(value) for value in line[2]), *line[3:]
        return super()._line(seat, work)

    def _known(self, seat: Seat, thing: Kernel | Shared, kind: int) -> int:
        """A shared value is packed once for all workers, so that Ray has it once."""
        if not isinstance(thing, Shared):
            return super()._known(seat, thing, kind)
        number = (self.numbers.get(id(thing)) or self._enter(thing))[1]
        if number not in seat.knows:
            packed = self._packed.get(number)
            if packed is None:
                packed = self._packed[number] = wire.encode(kind, thing.value, number)
            fds = [os.dup(fd) for fd in packed.fds]
            seat.knows.add(number)
            self._post(seat, wire.Packet(packed.data, fds, fds))
        return number

    def _forget(self, key: int, number: int) -> None:
        super()._forget(key, number)
        packed = self._packed.pop(number, None)
        if packed is not None:
            packed.close()

    def _lend(self, value: Any) -> Any:
        """A large array in shared memory: while one batch that has it is under way, others are sent the same."""
        numpy = sys.modules.get("numpy")
        if numpy is None or type(value) is not numpy.ndarray or value.nbytes < memory.KEEP_BYTES_MIN:
            return value
        if value.dtype.hasobject:
            return value
        held = self._lent.get(id(value))
        if held is None:
            held = self._lent[id(value)] = value, memory.share(value)
        return held[1]

    def _feed(self) -> None:
        super()._feed()
        if self._lent and not self.feeding:
            works = [work for seat in self.seats for _, work in seat.held.values() if work.how == "call"]
            under_way = {id(value) for work in works for value in work.values}
            for key in self._lent.keys() - under_way:
                del self._lent[key]

    def _shut(self) -> None:
        with self.lock:
            control, self._control = self._control, None
            if control is not None:
                control.close()
        super()._shut()
        if self._driver is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._driver.wait(END_S if self._joined else 0)  # its workers are ended by Ray when it says goodbye
            self._driver.kill()
            self._driver.wait()


class _RaySeat(Seat):
    """A worker somewhere: reached through the driver, which notes what it is at."""

    def __init__(self, number: int, node: str, sock: socket.socket, mark: mmap.mmap) -> None:
        super().__init__(_Elsewhere(), sock, mark)  # type: ignore[arg-type]
        self.number, self.node = number, node

    def room(self) -> bool:
        if not self.ready:
            return False
        if not self.held:
            return True
        return not self.unknown and self.cost_ns < AHEAD_NS and len(self.held) < AHEAD_COUNT_MAX

    def begun(self) -> set[int]:
        (count,) = messages.MARK_COUNT.unpack_from(self.mark)
        return {wire.MARK.unpack_from(self.mark, 4 * at)[0] for at in range(1, count + 1)} & self.held.keys()


class _Elsewhere:
    """In the place of the process of a local worker: the driver ends it when its socket is closed."""

    pid = 0
    returncode = 0

    def kill(self) -> None:
        """Nothing is here to be killed."""

    def wait(self) -> int:
        return 0


_SETTINGS = {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL": "minor",
}


def _path() -> list[str]:
    return [entry or str(Path.cwd()) for entry in sys.path]
