"""The line between two ranks of a gang: TCP, both ends shown to know the attempt's secret, every message signed.

Only after that is anything unpickled: both ends are processes of one account, running one program. Messages cannot be
altered, repeated or left out on the way, nor taken from an earlier connection, because they are signed with keys that
the handshake has made for this one alone; whoever sees the network can read them.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import pickle
import socket
import struct
import threading
from typing import Any

import blake3

from mycelium.base import handshake
from mycelium.base.handshake import Handshake
from mycelium.base.limits import GANG_MESSAGE_BYTES_MAX, HANDSHAKE_S
from mycelium.base.meeting import meet
from mycelium.polymer.shipping import dumps

_HEAD = struct.Struct(">Q32s")  # size of the body, its signature

# What is behind a door: who has shown that he may go through one has shown nothing for another.
POOL = b"gang pool"
MPI_GATHERING = b"gang mpi gathering"
MPI_COMMANDS = b"gang mpi commands"


class Line:
    """A connection whose other end is known. One thread sends at a time; one thread receives."""

    def __init__(self, sock: socket.socket, key_out: bytes, key_in: bytes) -> None:
        self.sock = sock
        self._key_out, self._key_in = key_out, key_in
        self._sent = self._received = 0
        self._sending = threading.Lock()

    def send(self, value: Any) -> None:
        """Errors: `OSError` when the other end is gone; whatever pickling raises."""
        body = dumps(value)
        self.send_bytes(body)

    def send_bytes(self, body: bytes) -> None:
        with self._sending:
            head = _HEAD.pack(len(body), _signed(self._key_out, self._sent, body))
            self._sent += 1
            self.sock.sendall(head)
            self.sock.sendall(body)

    def receive(self) -> Any:
        """The next message. Errors: `OSError`, `EOFError` when the other end is gone or what comes is not its own."""
        size, signature = _HEAD.unpack(_exactly(self.sock, _HEAD.size))
        if size > GANG_MESSAGE_BYTES_MAX:
            raise EOFError(f"a message of {size} bytes")
        body = _exactly(self.sock, size)
        if not hmac.compare_digest(signature, _signed(self._key_in, self._received, body)):
            raise EOFError("a message that the other end did not send")
        self._received += 1
        return pickle.loads(body)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)  # so that a thread that waits in it ends
        self.sock.close()


def _signed(key: bytes, number: int, body: bytes | bytearray) -> bytes:
    return blake3.blake3(number.to_bytes(8, "big"), key=key).update(body).digest()


def _exactly(sock: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view, got = memoryview(data), 0
    while got < size:
        count = sock.recv_into(view[got:])
        if count == 0:
            raise EOFError("the other end is gone")
        got += count
    return data


def answer(sock: socket.socket, secret: str, purpose: bytes) -> Line:
    """The line to whoever has dialled. Errors: `Denied`, `Refused`, `OSError`."""
    return _greet(sock, handshake.answer(secret.encode(), purpose, os.urandom(handshake.FRESH_BYTES)))


def dial(address: str, port: int, secret: str, purpose: bytes) -> Line:
    """The line to another rank. Errors: `Denied`, `Refused`, `OSError`."""
    sock = socket.create_connection((address, port), HANDSHAKE_S)
    try:
        return _greet(sock, handshake.knock(secret.encode(), purpose, os.urandom(handshake.FRESH_BYTES)))
    except BaseException:
        sock.close()
        raise


def _greet(sock: socket.socket, steps: Handshake) -> Line:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    session = meet(sock, steps)
    sock.settimeout(None)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3)):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    return Line(sock, session.key_out, session.key_in)
