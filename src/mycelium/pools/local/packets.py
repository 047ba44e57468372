"""A worker's socket as its pool uses it, and the memory in which the worker notes what it is at.

Never: waits. What the worker is too slow for is kept here until there is room.
"""

from __future__ import annotations

import mmap
import os
import selectors
import socket
from collections import deque
from collections.abc import Callable

from mycelium.pools.local import wire


class Packets:
    """`heard` gets each message, and None when the other side is gone. `theirs` and `their_mark` are for the worker,
    until `handed_over`.
    """

    def __init__(self, selector: selectors.BaseSelector, heard: Callable[[wire.Message | None], None]) -> None:
        self._selector, self._heard = selector, heard
        self._sock, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._sock, self.theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * wire.PACKET_BYTES_MAX)
        self._sock.setblocking(False)
        self.their_mark = os.memfd_create("mycelium-mark")
        os.ftruncate(self.their_mark, mmap.PAGESIZE)
        self._mark = mmap.mmap(self.their_mark, mmap.PAGESIZE)
        self._inbox = wire.Inbox(self._sock)
        self._outbox: deque[wire.Packet] = deque()
        self._closed = False
        selector.register(self._sock, selectors.EVENT_READ, self._event)

    def handed_over(self) -> None:
        """The worker has its ends, or nobody ever will."""
        self.theirs.close()
        os.close(self.their_mark)

    def post(self, packet: wire.Packet) -> None:
        if not self._outbox:
            try:
                packet.send(self._sock)
                return
            except BlockingIOError:
                self._selector.modify(self._sock, selectors.EVENT_READ | selectors.EVENT_WRITE, self._event)
            except OSError:
                packet.close()  # the worker is gone; the pool's thread hears of it by itself
                return
        self._outbox.append(packet)

    def noted(self) -> set[int]:
        """The tickets of what the worker was at when it was last seen."""
        return wire.noted(self._mark)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._selector.unregister(self._sock)
        self._sock.close()
        for packet in self._outbox:
            packet.close()
        self._mark.close()

    def _event(self, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self._flush()
        if mask & selectors.EVENT_READ:
            self._read()

    def _read(self) -> None:
        while not self._closed:  # one message, or another socket's end, may have ended this one
            try:
                message = self._inbox.read()
            except BlockingIOError:
                return
            self._heard(message)

    def _flush(self) -> None:
        if self._closed:
            return
        while self._outbox:
            try:
                self._outbox[0].send(self._sock)
            except BlockingIOError:
                return
            except OSError:
                self._outbox[0].close()
            self._outbox.popleft()
        self._selector.modify(self._sock, selectors.EVENT_READ, self._event)
