"""The ports that a node keeps free for gangs: bound by its agent until a step listens there.

A bound socket that does not listen keeps every other program from the port, and costs nothing. They are the same in
every life of the agent, as far as they can be had, because the head counts on them.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
from collections.abc import Collection
from pathlib import Path

from mycelium.base import files
from mycelium.base.limits import GANG_PORT_FIRST, GANG_PORTS, GANG_PORTS_HELD

TRIES_MAX = 10 * GANG_PORTS_HELD  # on a machine that has so many taken, fewer must do


class Ports:
    """`numbers` are all of them, held or lent; `file` remembers them."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._held: dict[int, socket.socket] = {}
        self._lent: set[int] = set()
        self.numbers: tuple[int, ...] = ()

    def open(self, lent: Collection[int]) -> None:
        """Hold them, but for those that a step has which an earlier life began."""
        known = self._read()
        self._lent = set(lent) & set(known)
        found = [port for port in known if port in self._lent or self._bind(port)]
        for _ in range(TRIES_MAX):
            if len(found) >= GANG_PORTS_HELD:
                break
            port = GANG_PORT_FIRST + random.randrange(GANG_PORTS)
            if port not in found and self._bind(port):
                found.append(port)
        self.numbers = tuple(sorted(found))
        with contextlib.suppress(OSError):  # on a full disk the next life holds others
            files.write(self._file, json.dumps(self.numbers))

    def lend(self, port: int) -> None:
        """Free this one: a step that begins now listens there."""
        if port in self.numbers:
            self._lent.add(port)
            held = self._held.pop(port, None)
            if held is not None:
                held.close()

    def take_back(self, port: int) -> None:
        self._lent.discard(port)
        self.hold()

    def hold(self) -> None:
        """Hold what is neither held nor lent: a connection that a step left may keep it taken for a minute."""
        for port in self.numbers:
            if port not in self._held and port not in self._lent:
                self._bind(port)

    def _bind(self, port: int) -> bool:
        held = socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET)
        try:
            if held.family == socket.AF_INET6:
                held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            held.bind(("", port))
        except OSError:
            held.close()
            return False
        self._held[port] = held
        return True

    def _read(self) -> list[int]:
        try:
            return [int(port) for port in json.loads(self._file.read_text())][:GANG_PORTS_HELD]
        except (OSError, ValueError, TypeError):
            return []
