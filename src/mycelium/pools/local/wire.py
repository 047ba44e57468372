"""Messages between a pool and its workers: one packet each, whatever is large beside it in shared memory.

A packet is a header, then the pickled body unless that is large, then where each buffer lies. Both ends are processes
of one person and one Python: this is not a protocol for strangers.
"""

from __future__ import annotations

import array
import errno
import mmap
import os
import pickle
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any

from mycelium.polymer import shipping
from mycelium.pools.local import memory

HEADER = struct.Struct("<BBHIIQ")  # kind, body in shared memory?, buffers, first ticket, tickets, size of the body
MARK = struct.Struct("<II")  # how many tickets follow, and the one that a worker is at: memory that its pool sees, too
_NUMBER = struct.Struct("<I")
PLACE = struct.Struct("<HQQ")  # descriptor, offset, size
INLINE_BYTES_MAX = 48 * 1024  # a packet must fit a socket's buffer; beyond it shared memory is as fast
BUFFER_BYTES_MIN = 16 * 1024  # smaller arrays travel inside the body
BUFFERS_MAX = 2_048  # beyond it arrays travel inside the body: each place takes 18 bytes of the packet
FDS_MAX = 120  # Linux carries 253 in one packet
PACKET_BYTES_MAX = 128 * 1024

_CUT = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)  # a plain number: sets of flags are slow to look into
CROWDED_TRIES = 2_000  # of a millisecond each
_CROWDED = (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM)  # too much is on the way at the moment

WORK, KERNEL, SHARED, FORGET, READY, RESULT = range(6)


def note(mark: mmap.mmap, tickets: Sequence[int]) -> None:
    """Write down what a worker may be at, where its pool finds it when the worker has died."""
    tickets = tickets[: len(mark) // _NUMBER.size - 1]
    struct.pack_into(f"<{len(tickets) + 1}I", mark, 0, len(tickets), *tickets)


def noted(mark: mmap.mmap) -> set[int]:
    (count,) = _NUMBER.unpack_from(mark)
    return set(struct.unpack_from(f"<{count}I", mark, _NUMBER.size))


class Packet:
    """One message, ready to be sent. `close` lets go of the descriptors that only carried it."""

    __slots__ = ("data", "fds", "own")

    def __init__(self, data: bytes, fds: list[int], own: list[int]) -> None:
        self.data, self.fds, self.own = data, fds, own

    def send(self, sock: socket.socket) -> None:
        """Errors: `BlockingIOError` when the other side is behind; `OSError` when it is gone."""
        for _ in range(CROWDED_TRIES):
            try:
                self._send(sock)
                break
            except OSError as error:
                if error.errno not in _CROWDED:
                    raise
                time.sleep(0.001)  # the other side takes descriptors out as fast as it reads
        else:
            self._send(sock)
        self.close()

    def _send(self, sock: socket.socket) -> None:
        if self.fds:
            sock.sendmsg((self.data,), ((socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", self.fds)),))
        else:
            sock.send(self.data)

    def close(self) -> None:
        for fd in self.own:
            os.close(fd)
        self.own = []


def encode(kind: int, value: Any, first: int = 0, count: int = 0) -> Packet:
    """Errors: whatever pickling `value` raises; `Exhausted` when there is no memory for what is large."""
    large: list[memoryview] = []

    def out_of_band(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if len(view) < BUFFER_BYTES_MIN or len(large) >= BUFFERS_MAX:
            return True
        large.append(view)
        return False

    body = shipping.dumps(value, out_of_band)
    if not large and len(body) <= INLINE_BYTES_MAX:
        return Packet(HEADER.pack(kind, 0, 0, first, count, len(body)) + body, [], [])
    return _with_memory(kind, body, large, first, count)


def _with_memory(kind: int, body: bytes, large: list[memoryview], first: int, count: int) -> Packet:
    apart = len(body) > INLINE_BYTES_MAX or len(large) > 1_024
    known = [memory.kept.find(memory.address(view), len(view)) if memory.kept.starts else None for view in large]
    fds: list[int] = []
    places: list[tuple[int, int, int]] = [(0, 0, 0)] * len(large)
    copied = [at for at, place in enumerate(known) if place is None]
    for at, place in enumerate(known):
        if place is None:
            continue
        fd, offset = place
        if fd not in fds and len(fds) >= FDS_MAX:
            copied.append(at)
            continue
        if fd not in fds:
            fds.append(fd)
        places[at] = (fds.index(fd), offset, len(large[at]))
    own: list[int] = []
    if copied or apart:
        parts = [body] if apart else []
        new, offsets = memory.create([*parts, *(large[at] for at in copied)])
        own.append(new)
        fds.append(new)
        for at, offset in zip(copied, offsets[len(parts) :], strict=True):
            places[at] = (len(fds) - 1, offset, len(large[at]))
    head = HEADER.pack(kind, 1 if apart else 0, len(large), first, count, len(body))
    table = b"".join(PLACE.pack(*place) for place in places)
    return Packet(head + table + (b"" if apart else body), fds, own)


class Inbox:
    """Reads packets from one socket, through one buffer."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = bytearray(PACKET_BYTES_MAX)
        self.view = memoryview(self.buffer)
        self.room = socket.CMSG_SPACE(4 * (FDS_MAX + 1))

    def read(self) -> Message | None:
        """The next message, or None when the other side is gone. Errors: `BlockingIOError` when nothing is there."""
        try:
            size, ancillary, flags, _ = self.sock.recvmsg_into((self.buffer,), self.room, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            return None
        if size == 0:
            return None
        fds = array.array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        assert not flags & _CUT, "a packet was cut short"
        return Message(self.view[:size], list(fds))


class Message:
    """A received packet; `load` gives its value, and must be called before the next one is read."""

    __slots__ = ("apart", "buffers", "count", "fds", "first", "kind", "size", "view")

    def __init__(self, view: memoryview, fds: list[int]) -> None:
        self.kind, self.apart, self.buffers, self.first, self.count, self.size = HEADER.unpack_from(view)
        self.view, self.fds = view, fds

    def load(self) -> Any:
        if not self.fds:
            return pickle.loads(self.view[HEADER.size : HEADER.size + self.size])
        regions = [memory.attach(fd) for fd in self.fds]
        at = HEADER.size
        buffers: list[memoryview] = []
        for _ in range(self.buffers):
            place: tuple[int, int, int] = PLACE.unpack_from(self.view, at)
            which, offset, size = place
            buffers.append(regions[which][offset : offset + size])
            at += PLACE.size
        body = regions[-1][: self.size] if self.apart else self.view[at : at + self.size]
        return pickle.loads(body, buffers=buffers)
