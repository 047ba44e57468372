"""Keeping this machine's porter alive: it listens on one port for as long as we live, however often it dies."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import socket
import subprocess
import sys
from pathlib import Path

from mycelium.base import files
from mycelium.base.appended import appended
from mycelium.base.errors import Unavailable
from mycelium.base.home import Home
from mycelium.carry.wire import PorterIdentity

log = logging.getLogger(__name__)
RETRY_S = 0.5
WAITING_CONNECTIONS = 128


def key_of(secret: str) -> str:
    """The porters' key, made from another secret that all machines of the site have."""
    return hashlib.sha256(b"mycelium porter " + secret.encode()).hexdigest()


class PorterKeeper:
    """`copies`: the objects of this machine can be had elsewhere, and old ones may go."""

    def __init__(self, home: Path, address: str, *, copies: bool, site: PorterIdentity | None = None) -> None:
        self._home = Home(home)
        self._copies = copies
        self._site = site
        self._child: subprocess.Popen[bytes] | None = None
        self._listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._bind(address)
        except OSError as error:
            self._listener.close()
            raise Unavailable(
                f"{address} is not an address of this machine: {error.strerror}", hint="`ip address` lists them"
            ) from None
        self._listener.listen(WAITING_CONNECTIONS)
        port: int = self._listener.getsockname()[1]
        self.address = f"{address}:{port}"
        with contextlib.suppress(OSError):
            files.write(self._home.porter_port, str(port))

    def _bind(self, address: str) -> None:
        """Where it was, if that can be had: an agent that lives on tells others of the porter that it was told of."""
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError, ValueError):
            self._listener.bind((address, int(self._home.porter_port.read_text())))
            return
        self._listener.bind((address, 0))

    async def keep(self, key: str) -> None:
        """Until cancelled."""
        path = self._home.porter_key
        files.write(path, key)
        try:
            while True:
                try:
                    self._child = await asyncio.to_thread(self._start, path)
                except OSError as error:  # no room for its log, or for another process: it may pass
                    log.warning("the porter does not start: %s", error)
                    await asyncio.sleep(RETRY_S)
                    continue
                await asyncio.to_thread(self._child.wait)
                await asyncio.sleep(RETRY_S)
        finally:
            if self._child is not None:
                self._child.kill()
                self._child.wait()
            self._listener.close()

    def _start(self, key: Path) -> subprocess.Popen[bytes]:
        fd = self._listener.fileno()
        words = ["--objects", str(self._home.objects), "--key-file", str(key), "--fd", str(fd)]
        if self._copies:
            words.append("--copies")
        if self._site is not None:
            words += ["--certificate", str(self._site.certificate), "--certificate-key", str(self._site.key)]
        with appended(self._home.porter_log) as output:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "mycelium.carry.porter", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
                pass_fds=[fd],
            )
