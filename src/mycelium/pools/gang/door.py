"""Where ranks of a gang listen for others: a line to each who knows the secret of the attempt.

Each who dials is met in a thread of its own, so that a stranger who says nothing keeps nobody waiting.
Never: reads a message, or has more strangers at once than the bound.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable

from mycelium.base.errors import Problem
from mycelium.base.limits import STRANGERS_MAX
from mycelium.pools.gang.line import Line, answer

RETRY_S = 0.1


class Door:
    """`met` is called with each line, in its thread, which is then free for it."""

    def __init__(self, listener: socket.socket, secret: str, purpose: bytes, met: Callable[[Line], None]) -> None:
        self._listener = listener
        self._secret, self._purpose, self._met = secret, purpose, met
        self._strangers = threading.BoundedSemaphore(STRANGERS_MAX)
        self._closed = False
        threading.Thread(target=self._let_in, name="gang", daemon=True).start()

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # so that the thread that waits in it ends
        self._listener.close()

    def _let_in(self) -> None:
        while not self._closed:
            self._strangers.acquire()
            try:
                sock, _ = self._listener.accept()
            except OSError:  # closed; or who dialled has gone, or too many files are open, which passes
                self._strangers.release()
                time.sleep(RETRY_S)
                continue
            threading.Thread(target=self._meet, args=(sock,), name="rank", daemon=True).start()

    def _meet(self, sock: socket.socket) -> None:
        try:
            line = answer(sock, self._secret, self._purpose)
        except (Problem, OSError):
            sock.close()
            return
        finally:
            self._strangers.release()
        self._met(line)
