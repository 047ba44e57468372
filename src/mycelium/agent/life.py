"""A port that answers as long as anything of this node lives: its agent, or the shim of one of its steps.

All of them hold the listening socket, so the machine's kernel answers a connection for them, and refuses it as soon as
the last one is gone. That is how the head tells a node that is dead for certain from one that is only out of reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

from mycelium.base import files

WAITING_CONNECTIONS = 64  # that nobody takes while the agent is away; beyond them the node is out of reach, not dead


class Life:
    """The port is the same in every life of the agent, because steps of an earlier one hold it still."""

    def __init__(self, file: Path, address: str) -> None:
        made = _listen(address, _read(file)) or _listen(address, 0)
        self._socket = made
        self.port: int = made.getsockname()[1] if made is not None else 0
        with contextlib.suppress(OSError):  # on a full disk the next life has another port, and less can be told
            files.write(file, str(self.port))

    @property
    def fd(self) -> int:
        return self._socket.fileno() if self._socket is not None else -1

    def close(self) -> None:
        """Let go of it; steps may hold it still."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def answer(self) -> None:
        """Take connections and close them, until cancelled: that they were answered is all there is to say."""
        if self._socket is None:
            return
        async with await asyncio.start_server(lambda _, writer: writer.close(), sock=self._socket) as server:
            await server.serve_forever()


def _listen(address: str, port: int) -> socket.socket | None:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        # Beside the sockets of earlier lives, which their steps keep open.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((address, port))
        made.listen(WAITING_CONNECTIONS)
    except OSError:
        made.close()
        return None
    return made


def _read(file: Path) -> int:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0
