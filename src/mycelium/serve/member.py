"""A machine that is a node of a site, for as long as it stays: from its first question to the leave-taking.

It runs the agent of its node and the engine's processes, opens a way for gateways, and asks the site again and again
what has changed. What lies in its home says who it is.
Never: prints, or decides what the site should: whoever stays tells `News`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from mycelium.agent import probes
from mycelium.base import files, lock
from mycelium.base.errors import Conflict, Denied, Problem, Unavailable
from mycelium.base.home import Home, TlsFiles
from mycelium.base.limits import DISK_RESERVE_BYTES
from mycelium.base.version import __version__
from mycelium.client.site import Client
from mycelium.engine.orders import WIRE_VERSION
from mycelium.engine.passage import Passage
from mycelium.nodes.model import Devices
from mycelium.serve.tls import request
from mycelium.store.disk import check_room

LOOK_S = 0.2
LEAVE_S = 20.0  # for the last word to the site, which answered just before
ABSENT_HINT = "on the machine that leads, `myc up --engine ray --address IP` prints what to join"


class News(Protocol):
    """Whoever wants to know how it stands. `waits` and `state` are what the site said last."""

    waits: bool
    state: str

    def first(self, answer: dict[str, Any], member: Membership) -> None: ...

    def heard(self, answer: dict[str, Any] | None) -> None:
        """What the site answered; None when it did not."""
        ...

    def draining(self) -> None: ...


class Membership:
    """What this machine is, and how it speaks with the head."""

    def __init__(
        self,
        url: str,
        home: Path,
        name: str,
        address: str,
        labels: list[str],
        tls: TlsFiles | None = None,
        ca: str = "",
    ) -> None:
        keys = (Home(home).machine_key, Home(home).tls.machine_key)
        self._made = [path for path in keys if not path.exists()]
        self.url, self.key = url, _key(Home(home).machine_key)
        self.tls = tls
        self.ca = ca  # of the site that is asked: it replaces the one that lies here once that site has let us in
        self.certified = False  # a certificate is asked for once in every life
        self.home = home
        self.name = name or socket.gethostname()
        self.address = address or _address_towards(url)
        self.labels = labels
        self.devices = Devices(len(probes.cores()) * 1000, probes.memory_bytes(), len(probes.nvidia_gpus()))
        self.passage = ""  # where gateways get to the replicas of models that run here
        self.words = ["--name", self.name, "--address", self.address]
        for each in labels:
            self.words += ["--label", each]

    def ask(self, token: str = "") -> dict[str, Any]:
        from mycelium.engine.ray.host import socket_path, versions

        shown = {"token": token} if token else {}
        if self.tls is not None and not self.certified:
            shown["request"] = request(self.tls.machine_key, self.address)
        given: dict[str, str] = {}
        for each in self.labels:
            key, _, value = each.partition("=")
            given[key] = value
        devices = self.devices
        # A connection of its own for each question: one that a cut cable has swallowed would be waited for too long.
        client = Client(self.url, self.key, absent_hint=ABSENT_HINT, ca=self.ca)
        with contextlib.closing(client):
            answer = client.post(
                "/machines",
                {
                    "name": self.name,
                    "versions": {"mycelium": __version__, "wire": str(WIRE_VERSION), **versions()},
                    "time_ns": time.time_ns(),
                    "address": self.address,
                    "socket": str(socket_path(self.home)),
                    "passage": self.passage,
                    "devices": {
                        "cpu_m": devices.cpu_m,
                        "memory_bytes": devices.memory_bytes,
                        "gpus": devices.gpus,
                    },
                    "labels": probes.labels(self.home) | given,
                    **shown,
                },
            )
        if self.tls is not None and self.ca:
            files.write(self.tls.ca, self.ca + "\n", durable=True)
            self.ca = ""
        if self.tls is not None and answer["certificate"]:
            files.write(self.tls.machine, answer["certificate"])
            self.certified = True
        return answer

    def forget(self) -> None:
        """The keys that were made for a site that does not want this machine go again.

        They lie here before it is asked: if it lets the machine in and its answer is lost, they are what it knows.
        """
        for path in self._made:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # only when nothing else lies there
            (self.home / "tls").rmdir()


async def stay(member: Membership, token: str, news: News, ask_token: Callable[[], str]) -> None:
    """Until this machine has left. `ask_token` is asked where the site wants one and none was given.

    Errors: the site's; `Denied` when it was taken out.
    """
    from mycelium.engine.ray.host import Host
    from mycelium.engine.ray.raylet import Tls

    passage = Passage(member.home, member.address)
    member.passage = passage.address
    first = await _first(member, token, ask_token)
    news.first(first, member)
    tls = None
    if member.tls is not None:
        tls = Tls(member.tls.ca, member.tls.machine, member.tls.machine_key)
    host = Host(member.home, member.address, member.words, member.devices.cpu_m // 1000, member.devices.gpus, tls)
    wishes: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, wishes.put_nowait, 1)

    def heard(answer: dict[str, Any] | None) -> None:
        news.heard(answer)
        if answer is not None and answer["engine"] is not None:
            passage.open(answer["engine"]["passage_key"], tls.site if tls else None)

    running = asyncio.create_task(host.run(member.ask, heard))
    leaving = asyncio.create_task(_leave(member, wishes, news))
    try:
        await asyncio.wait((running, leaving), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
    except Denied:  # it had been let in
        raise Denied(
            f"{first['node']} was taken out of the site", hint="`myc join --token-file FILE` asks to join again"
        ) from None
    finally:
        for task in (running, leaving):
            task.cancel()
        await asyncio.gather(running, leaving, return_exceptions=True)
        passage.close()
        await host.stop()


async def _first(member: Membership, token: str, ask_token: Callable[[], str]) -> dict[str, Any]:
    """The answer to a machine that asks for the first time in this life."""
    try:
        try:
            return await asyncio.to_thread(member.ask, token)
        except Denied:
            if token:
                raise
        # Its key is one that the site has never let in, or does not want any more.
        return await asyncio.to_thread(member.ask, ask_token())
    except Unavailable:  # it may have let us in all the same
        raise
    except Problem:
        member.forget()
        raise


async def _leave(member: Membership, wishes: asyncio.Queue[int], news: News) -> None:
    """Return when this machine may go: drained, or told three times."""
    await wishes.get()
    if news.waits:
        return
    news.draining()
    for now in (False, True):
        # Beside the wait, because a site that does not answer must not keep anybody from going.
        asking = asyncio.create_task(_until_answered(member, "/machines/drain", {"now": now}))
        try:
            while wishes.empty():
                if news.state == "drained":
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(_until_answered(member, "/machines/leave", {}), LEAVE_S)
                    return
                await asyncio.sleep(LOOK_S)
        finally:
            asking.cancel()
        wishes.get_nowait()


async def _until_answered(member: Membership, path: str, document: dict[str, Any]) -> None:
    """Until the site has heard it, whatever it says to it."""
    client = Client(member.url, member.key)
    with contextlib.closing(client):
        while True:
            try:
                await asyncio.to_thread(client.post, path, document)
            except Unavailable:
                await asyncio.sleep(1)
            except Problem:
                return
            else:
                return


# What lies on this machine.


@contextlib.contextmanager
def held(home: Path) -> Generator[None]:
    """Be the only `myc join` here. Errors: `Conflict`, `Unavailable`, `Exhausted` when the disk is full."""
    if Home(home).log.exists():
        raise Conflict(f"a site lives in {home}", hint="choose another directory with --home")
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        home.chmod(0o700)
        check_room(home, DISK_RESERVE_BYTES)
        taken = lock.take(Home(home).join_lock, lock.this_process())
    except lock.Busy:
        raise Conflict(f"this machine has joined already, from {home}", hint="`myc leave` ends that") from None
    except OSError as error:
        raise Unavailable(f"{home} cannot be used: {error.strerror}", hint="choose another with --home") from None
    try:
        yield
    finally:
        os.close(taken)


def _key(path: Path) -> str:
    """This machine's identity: whoever has the file is this machine."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_text().strip()
    key = secrets.token_urlsafe(32)
    files.write(path, key + "\n", durable=True)
    return key


def trust(home: Path, ca: str) -> TlsFiles | None:
    """Where certificates lie, when the site speaks TLS: it is the only one that is trusted then."""
    tls = Home(home).tls
    if ca:
        tls.path.mkdir(mode=0o700, exist_ok=True)
    return tls if ca or tls.ca.exists() else None


def _address_towards(url: str) -> str:
    """Our own address on the way to the head. No packet is sent."""
    parts = urlsplit(url)
    try:
        info = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_DGRAM)[0]
        with socket.socket(info[0], socket.SOCK_DGRAM) as trial:
            trial.connect(info[4])
            return str(trial.getsockname()[0])
    except OSError as error:
        raise Unavailable(f"no way leads to {parts.hostname}: {error.strerror}", hint="check the address") from None
