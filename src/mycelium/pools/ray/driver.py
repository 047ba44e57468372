"""`python -m mycelium.pools.ray.driver FD PARENT`: the driver of Ray that a pool keeps as a child.

Ray ends the process of a driver that loses it, and a process can have one driver only: whoever uses a pool must share
neither fate. To the pool each worker is a socket, as a local one is; here behind each socket is an actor on some node,
and what comes in while two calls of it are under way goes out with the next one. Large buffers become objects of Ray:
put once, read in place by all workers of a node, moved between nodes by Ray.

Never: unpickles a call or a result, or decides what runs where.
"""

# Much of Ray has no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownLambdaType=false
from __future__ import annotations

import ctypes
import mmap
import os
import secrets
import select
import selectors
import signal
import socket
import sys
import threading
import time
from collections import OrderedDict, deque
from pathlib import Path
from typing import Any

import numpy
import ray

from mycelium.base.limits import RAY_LENT_BYTES_MAX
from mycelium.pools.local import memory, wire
from mycelium.pools.ray import messages
from mycelium.pools.ray.messages import Found, JoinPool, Open, WorkerGone
from mycelium.pools.ray.worker import Given, PoolWorker, Sent, failing

LOOK_S = 0.5  # between two looks at the membership
UNDER_WAY_MAX = 2  # calls of one actor: one runs, one is there when it ends
CALL_BYTES_MAX = 64 * 1024  # bodies that travel together; beyond 100 KB Ray makes an object of them
PUT_BYTES_MIN = 256 * 1024  # smaller buffers are copied into the call: an object costs a millisecond
INLINE_BYTES_MAX = wire.PACKET_BYTES_MAX - 4096  # results of which Ray made no object fit a packet whole
FDS_OPEN = 2

Where = tuple[int, int] | None  # of a buffer in what a worker gave; None: the object is the buffer


class Lent:
    """Buffers that are objects of Ray already, by the shared file that holds the same bytes; the oldest are let go.

    Only to save work: whoever sends a buffer sends its file along, and a forgotten one is put again.
    """

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[str, int, int], tuple[Any, Where, int]] = OrderedDict()
        self._bytes = 0

    def find(self, key: tuple[str, int, int]) -> tuple[Any, Where] | None:
        held = self._held.get(key)
        if held is None:
            return None
        self._held.move_to_end(key)
        return held[:2]

    def keep(self, key: tuple[str, int, int], ref: Any, where: Where, size: int) -> None:
        self._held[key] = (ref, where, size)
        self._bytes += size
        while self._bytes > RAY_LENT_BYTES_MAX and len(self._held) > 1:
            self._bytes -= self._held.popitem(last=False)[1][2]

    def clear(self) -> None:
        self._held.clear()
        self._bytes = 0


class Post:
    """One worker: its socket to the pool, its actor, what waits and what is under way."""

    def __init__(self, number: int, node: str, sock: socket.socket, mark: mmap.mmap) -> None:
        self.number, self.node, self.sock, self.mark = number, node, sock, mark
        self.inbox = wire.Inbox(sock)
        self.ready = False
        self.waiting: deque[tuple[Sent, list[Any]]] = deque()
        self.under_way: deque[list[int]] = deque()  # the tickets of each call
        made: Any = ray.remote(PoolWorker)
        self.actor = made.options(
            num_cpus=0, max_restarts=0, max_task_retries=0, label_selector={"ray.io/node-id": node}
        ).remote()

    def note(self) -> None:
        """What the worker is at, where the pool finds it when the worker has died."""
        tickets = next((tickets for tickets in self.under_way if tickets), [])  # a kernel on its way kills nobody
        wire.note(self.mark, tickets)


class Driver:
    def __init__(self, control: socket.socket, join: JoinPool) -> None:
        self.control, self.join = control, join
        self.posts: dict[int, Post] = {}
        self.lent = Lent()
        self.found: dict[str, int] | None = None
        self.heard: deque[tuple[str, Any, Any]] = deque()  # what Ray's threads have to say
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.bell, selectors.EVENT_READ, self._answer)
        self.selector.register(control, selectors.EVENT_READ, self._order)
        self.over = False

    def run(self) -> None:
        """Until the pool is gone, or Ray here."""
        for look in (self._look_for_ever, self._feel_for_ever):
            threading.Thread(target=look, daemon=True, name=look.__name__).start()
        while not self.over:
            for key, _ in self.selector.select():
                key.data()

    # What the pool says.

    def _order(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self.control, 1 << 16, FDS_OPEN)
        except OSError:
            data, fds = b"", []
        if not data:
            self.over = True
            return
        order = messages.to_driver.decode(data)
        if isinstance(order, Open):
            sock = socket.socket(fileno=fds[0])
            sock.setblocking(False)
            post = Post(order.seat, order.node, sock, mmap.mmap(fds[1], mmap.PAGESIZE))
            os.close(fds[1])
            self.posts[order.seat] = post
            self.selector.register(post.sock, selectors.EVENT_READ, lambda: self._take_in(post))
            self._ask("begun", post, post.actor.begin.remote(list(self.join.path)))

    def _take_in(self, post: Post) -> None:
        while True:
            try:
                message = post.inbox.read()
            except BlockingIOError:
                break
            if message is None:
                self._end(post, "")
                return
            try:
                unpacked = self._unpacked(message)
            except Exception as error:  # Ray has no room: whoever uses what was sent is told
                unpacked = (message.kind, message.first, message.count, failing(_brief(error)), []), []
            post.waiting.append(unpacked)
        self._pump(post)

    def _unpacked(self, message: wire.Message) -> tuple[Sent, list[Any]]:
        """The call as it goes to the actor, and the objects that its buffers are in."""
        names = [_name(fd) for fd in message.fds]
        regions = [memory.attach(fd, keep=False) for fd in message.fds]
        end = wire.HEADER.size + message.buffers * wire.PLACE.size
        places = wire.PLACE.iter_unpack(message.view[wire.HEADER.size : end])
        body = bytes(regions[-1][: message.size] if message.apart else message.view[end : end + message.size])
        buffers: list[Any] = []
        refs: list[Any] = []
        for which, at, size in places:
            if size < PUT_BYTES_MIN:
                buffers.append(bytes(regions[which][at : at + size]))
                continue
            ref, where = self._object((names[which], at, size), regions[which][at : at + size])
            if ref not in refs:
                refs.append(ref)
            buffers.append((refs.index(ref), where))
        return (message.kind, message.first, message.count, body, buffers), refs

    def _object(self, key: tuple[str, int, int], data: memoryview) -> tuple[Any, Where]:
        held = self.lent.find(key)
        if held is None:
            held = ray.put(numpy.frombuffer(data, numpy.uint8)), None
            self.lent.keep(key, *held, len(data))
        return held

    def _pump(self, post: Post) -> None:
        while post.ready and post.waiting and len(post.under_way) < UNDER_WAY_MAX:
            batch: list[Sent] = []
            refs: list[Any] = []
            tickets: list[int] = []
            size = 0
            while post.waiting and (not batch or size + len(post.waiting[0][0][3]) <= CALL_BYTES_MAX):
                sent, its_refs = post.waiting.popleft()
                batch.append(_moved(sent, its_refs, refs))
                size += len(sent[3])
                if sent[0] == wire.WORK:
                    tickets += range(sent[1], sent[1] + sent[2])
            post.under_way.append(tickets)
            post.note()
            self._ask("taken", post, post.actor.take.remote(batch, *refs))

    # What Ray says, in threads of its own.

    def _ask(self, what: str, post: Post, ref: Any) -> None:
        ref._on_completed(lambda value: self._hear(what, (post, ref), value))

    def _hear(self, what: str, about: Any, value: Any) -> None:
        self.heard.append((what, about, value))
        os.eventfd_write(self.bell, 1)

    def _answer(self) -> None:
        os.eventfd_read(self.bell)
        while self.heard:
            what, about, value = self.heard.popleft()
            match what:
                case "found":
                    self._found(value)
                case "lost":
                    self._tell(WorkerGone(0, f"Ray is lost here: {value}"))
                    os._exit(1)  # whatever Ray would do at the end of this process waits for what is gone
                case _:
                    post, ref = about
                    if self.posts.get(post.number) is not post:
                        continue
                    if isinstance(value, BaseException):
                        self.lent.clear()  # an object that nobody can find any more may be why
                        self._end(post, _brief(value))
                    elif what == "begun":
                        post.ready = True
                        self._send(post, wire.encode(wire.READY, value))
                        self._pump(post)
                    else:
                        self._given(post, ref, value)

    def _given(self, post: Post, ref: Any, given: list[Given]) -> None:
        post.under_way.popleft()
        post.note()
        self._pump(post)
        for at, (first, count, body, buffers) in enumerate(given):
            self._send(post, self._result(ref, at, first, count, body, buffers))

    def _result(self, ref: Any, at: int, first: int, count: int, body: bytes, buffers: list[Any]) -> wire.Packet:
        apart = len(body) > INLINE_BYTES_MAX or (bool(buffers) and len(body) > wire.INLINE_BYTES_MAX)
        if not buffers and not apart:
            return wire.Packet(wire.HEADER.pack(wire.RESULT, 0, 0, first, count, len(body)) + body, [], [])
        fd, offsets = memory.create([*([body] if apart else []), *buffers])
        name, table = _name(fd), b""
        for number, (buffer, offset) in enumerate(zip(buffers, offsets[apart:], strict=True)):
            table += wire.PLACE.pack(0, offset, len(buffer))
            if len(buffer) >= PUT_BYTES_MIN:
                self.lent.keep((name, offset, len(buffer)), ref, (at, number), len(buffer))
        if apart:  # the last region holds it, at its beginning
            return wire.Packet(
                wire.HEADER.pack(wire.RESULT, 1, len(buffers), first, count, len(body)) + table, [fd], [fd]
            )
        return wire.Packet(
            wire.HEADER.pack(wire.RESULT, 0, len(buffers), first, count, len(body)) + table + body, [fd], [fd]
        )

    def _send(self, post: Post, packet: wire.Packet) -> None:
        """To the pool, which always reads: it is waited for."""
        while True:
            try:
                return packet.send(post.sock)
            except BlockingIOError:
                select.select((), (post.sock,), ())
            except OSError:
                packet.close()
                return self._end(post, "")

    def _end(self, post: Post, why: str) -> None:
        if self.posts.pop(post.number, None) is None:
            return
        self.selector.unregister(post.sock)
        if why:
            self._tell(WorkerGone(post.number, why))
        post.sock.close()
        ray.kill(post.actor)

    def _tell(self, message: messages.ToPool) -> None:
        try:
            self.control.send(messages.pack(message))
        except OSError:
            self.over = True

    # Membership.

    def _look_for_ever(self) -> None:
        while True:
            try:
                self._hear("found", None, self._slots(ray.nodes()))
            except Exception as error:  # whatever Ray raises when it is lost
                self._hear("lost", None, _brief(error))
                return
            time.sleep(LOOK_S)

    def _feel_for_ever(self) -> None:
        """Whether this machine's raylet lives: when it does not, a look at the membership may take a minute to fail."""
        raylet = ray._private.worker.global_worker.node.raylet_socket_name  # type: ignore[union-attr]
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as trial:
                    trial.connect(raylet)
            except OSError as error:
                self._hear("lost", None, _brief(error))
                return
            time.sleep(LOOK_S)

    def _slots(self, nodes: list[dict[str, Any]]) -> dict[str, int]:
        """How many workers each living node may have. Of several that have the name, the last to come."""
        alive = [node for node in nodes if node["Alive"]]
        if not self.join.nodes:
            return {node["NodeID"]: int(node["Resources"].get("CPU", 0)) for node in alive}
        found: dict[str, tuple[str, str]] = {}
        for node in alive:
            labels = node.get("Labels", {})
            life = labels.get("myc-life", "").zfill(20)
            for name in (node["NodeID"], node["NodeManagerAddress"], labels.get("myc-machine", "")):
                if name in self.join.nodes:
                    found[name] = max(found.get(name, ("", "")), (life, node["NodeID"]))
        return {node: self.join.nodes[name] for name, (_, node) in found.items()}

    def _found(self, slots: dict[str, int]) -> None:
        for post in list(self.posts.values()):
            if post.node not in slots:
                self._end(post, "its node has left")
        if slots != self.found:
            self.found = slots
            self._tell(Found(slots))


def _name(fd: int) -> str:
    """What tells this file from every other one that was ever shared."""
    return str(Path(f"/proc/self/fd/{fd}").readlink())


def _moved(sent: Sent, its_refs: list[Any], refs: list[Any]) -> Sent:
    """The call with its objects counted among those of all calls that travel with it."""
    if not its_refs:
        return sent
    for ref in its_refs:
        if ref not in refs:
            refs.append(ref)
    kind, first, count, body, buffers = sent
    moved = [one if isinstance(one, bytes) else (refs.index(its_refs[one[0]]), one[1]) for one in buffers]
    return kind, first, count, body, moved


def _brief(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]


def main() -> None:
    """Serve the pool at the other end of the descriptor."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != int(sys.argv[2]):  # it died before it could be watched
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    join = messages.to_driver.decode(control.recv(1 << 20))
    assert isinstance(join, JoinPool)
    try:
        # Ray's own address for this machine, or a raylet elsewhere; never `ray://`, which is far slower.
        ray.init(
            address=join.address,
            namespace=f"mycelium-{secrets.token_hex(8)}",
            log_to_driver=False,
            configure_logging=False,
        )
    except Exception as error:  # whatever Ray raises: the pool says it
        control.send(messages.pack(WorkerGone(0, _brief(error))))
        return
    Driver(control, join).run()
    ray.shutdown()


if __name__ == "__main__":
    main()
