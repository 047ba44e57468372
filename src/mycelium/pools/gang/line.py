"""The line between two ranks of a gang: TCP, both ends shown to know the attempt's secret, every message signed.

Only after that is anything unpickled: both ends are processes of one account, running one program. Messages cannot be
altered, repeated or left out on the way; whoever sees the network can read them.
Source: the handshake is a challenge and response with HMAC-SHA256 in both directions (RFC 2104).
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import pickle
import socket
import struct
import threading
from typing import Any

import blake3

from mycelium.base.errors import Denied
from mycelium.base.limits import GANG_HELLO_S, GANG_MESSAGE_BYTES_MAX
from mycelium.polymer.shipping import dumps

_HEAD = struct.Struct(">Q32s")  # size of the body, its signature
_NONCE_BYTES = 32
_PROOF_BYTES = 32


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


def answer(sock: socket.socket, secret: str) -> Line:
    """The line to whoever has dialled. Errors: `Denied`, `OSError`, `EOFError`."""
    return _greet(sock, secret, b"driver", b"worker")


def dial(address: str, port: int, secret: str) -> Line:
    """The line to rank 0. Errors: `Denied`, `OSError`, `EOFError`."""
    sock = socket.create_connection((address, port), GANG_HELLO_S)
    try:
        return _greet(sock, secret, b"worker", b"driver")
    except BaseException:
        sock.close()
        raise


def _greet(sock: socket.socket, secret: str, we: bytes, they: bytes) -> Line:
    sock.settimeout(GANG_HELLO_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ours = os.urandom(_NONCE_BYTES)
    sock.sendall(ours)
    theirs = bytes(_exactly(sock, _NONCE_BYTES))
    sock.sendall(_proof(secret, we, ours, theirs))
    shown = bytes(_exactly(sock, _PROOF_BYTES))
    if ours == theirs or not hmac.compare_digest(shown, _proof(secret, they, theirs, ours)):
        raise Denied("whoever is at the other end does not know the gang's secret")
    sock.settimeout(None)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3)):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    return Line(sock, _key(secret, we, ours, theirs), _key(secret, they, theirs, ours))


def _proof(secret: str, who: bytes, own: bytes, other: bytes) -> bytes:
    return hmac.new(secret.encode(), b"proof " + who + own + other, hashlib.sha256).digest()


def _key(secret: str, who: bytes, own: bytes, other: bytes) -> bytes:
    return hmac.new(secret.encode(), b"key " + who + own + other, hashlib.sha256).digest()
