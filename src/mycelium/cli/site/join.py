"""`myc join`: this machine becomes a node of a site, for as long as the command runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from mycelium.base import files, lock
from mycelium.base.errors import Conflict, Denied, Problem, Refused, Unavailable
from mycelium.base.home import Home, TlsFiles
from mycelium.base.limits import DISK_RESERVE_BYTES
from mycelium.base.version import __version__
from mycelium.cli.flags import takes_settings
from mycelium.client import settings, show
from mycelium.client.site import Client

TOKEN_BYTES_MAX = 16_384  # a token and a certificate
LOOK_S = 0.2
LEAVE_S = 20.0  # for the last word to the site, which answered just before
ABSENT_HINT = "on the machine that leads, `myc up --engine ray --address IP` prints what to join"


@takes_settings("join")
def join(
    site: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Where the site listens.")],
    token_file: Annotated[
        str, typer.Option(metavar="FILE", help="The site's tokens/join, or a one-time token; - reads it from stdin.")
    ] = "",
    name: Annotated[str, typer.Option(metavar="TEXT", help="What the node is called. [the host's name]")] = "",
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A label that jobs can ask for.")] = None,
) -> None:
    """Make this machine a node of the site. A new machine waits until somebody there approves it.

    Ctrl-C drains the node and leaves when its work has ended; a second one stops its work; a third goes at once. The
    machine keeps its place: `myc join` again, and it has the same node and gets its work back.
    """
    place = settings.home()
    with _held(place):
        known = Home(place).machine_key.exists()
        token, ca = _token(token_file) if token_file or not known else ("", "")
        tls = _trust(place, ca)
        member = _Member(_url(site, tls), place, name, settings.get("address") or "", label or [], tls, ca)
        asyncio.run(_stay(member, token))
    show.note("this machine has left the site; `myc join` brings it back")


class _Member:
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
        from mycelium.agent import probes
        from mycelium.nodes.model import Devices

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
        from mycelium.agent import probes
        from mycelium.engine.orders import WIRE_VERSION
        from mycelium.engine.ray.host import socket_path, versions

        shown = {"token": token} if token else {}
        if self.tls is not None and not self.certified:
            from mycelium.serve.tls import request

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


async def _stay(member: _Member, token: str) -> None:
    """From the first question to the leave-taking."""
    from mycelium.engine.passage import Passage
    from mycelium.engine.ray.host import Host
    from mycelium.engine.ray.raylet import Tls

    passage = Passage(member.home, member.address)
    member.passage = passage.address
    first = await _first(member, token)
    _say_first(first, member)
    tls = None
    if member.tls is not None:
        tls = Tls(member.tls.ca, member.tls.machine, member.tls.machine_key)
    host = Host(member.home, member.address, member.words, member.devices.cpu_m // 1000, member.devices.gpus, tls)
    wishes: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, wishes.put_nowait, 1)
    news = _News(first)

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


async def _first(member: _Member, token: str) -> dict[str, Any]:
    """The answer to a machine that asks for the first time in this life."""
    try:
        try:
            return await asyncio.to_thread(member.ask, token)
        except Denied:
            if token:
                raise
        # Its key is one that the site has never let in, or does not want any more.
        return await asyncio.to_thread(member.ask, _token("")[0])
    except Unavailable:  # it may have let us in all the same
        raise
    except Problem:
        member.forget()
        raise


class _News:
    """Says what has changed for this machine, once."""

    def __init__(self, first: dict[str, Any]) -> None:
        self.state = str(first["state"])
        self.waits = bool(first["waits"])
        self._away = False

    def heard(self, answer: dict[str, Any] | None) -> None:
        if answer is None:
            if not self._away:
                show.note("the site does not answer; what runs here goes on")
            self._away = True
            return
        if self._away:
            show.note("the site answers again")
        self._away = False
        if self.waits and not answer["waits"]:
            show.say(f"{answer['node']} is approved")
        if answer["state"] == "up" != self.state:
            show.say(f"{show.paint('●', '32')} {answer['node']} is up")
        self.state, self.waits = str(answer["state"]), bool(answer["waits"])
        sys.stdout.flush()


async def _leave(member: _Member, wishes: asyncio.Queue[int], news: _News) -> None:
    """Return when this machine may go: drained, or told three times."""
    await wishes.get()
    if news.waits:
        return
    show.note("draining: Ctrl-C again stops what runs here, a third time goes at once")
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


async def _until_answered(member: _Member, path: str, document: dict[str, Any]) -> None:
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


def _say_first(first: dict[str, Any], member: _Member) -> None:
    show.say(f"this machine is {show.paint(first['node'], '1')} ({member.name}) at {member.address}")
    if first["waits"]:
        show.say(f"  it waits for approval: `myc node approve {first['node']}` on the site's side")
    sys.stdout.flush()


# What lies on this machine.


@contextlib.contextmanager
def _held(home: Path) -> Generator[None]:
    """Be the only `myc join` here. Errors: `Conflict`, `Unavailable`, `Exhausted` when the disk is full."""
    from mycelium.store.disk import check_room

    if Home(home).log.exists():
        raise Conflict(f"a site lives in {home}", hint="choose another directory with --home")
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        home.chmod(0o700)
        check_room(home, DISK_RESERVE_BYTES)
        held = lock.take(Home(home).join_lock, lock.this_process())
    except lock.Busy:
        raise Conflict(f"this machine has joined already, from {home}", hint="`myc leave` ends that") from None
    except OSError as error:
        raise Unavailable(f"{home} cannot be used: {error.strerror}", hint="choose another with --home") from None
    try:
        yield
    finally:
        os.close(held)


def _key(path: Path) -> str:
    """This machine's identity: whoever has the file is this machine."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_text().strip()
    key = secrets.token_urlsafe(32)
    files.write(path, key + "\n", durable=True)
    return key


def _token(path: str) -> tuple[str, str]:
    """The token, and the certificate of the site's CA where the site speaks TLS. Errors: `Refused`."""
    if not path:
        if not sys.stdin.isatty():
            raise Refused(
                "the site has not let this machine in: a token is needed", hint="give one with --token-file FILE"
            )
        import getpass

        return getpass.getpass("token of the site: ").strip(), ""
    try:
        with open(0 if path == "-" else path, "rb") as file:
            said = file.read(TOKEN_BYTES_MAX + 1)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None
    token, _, ca = said.decode(errors="replace").strip().partition("\n")
    if not token or len(said) > TOKEN_BYTES_MAX or not token.isprintable():
        raise Refused(f"{path} holds no token", hint="it is the site's tokens/join, or what `myc node invite` printed")
    return token.strip(), ca.strip()


def _trust(home: Path, ca: str) -> TlsFiles | None:
    """Where certificates lie, when the site speaks TLS: it is the only one that is trusted then."""
    tls = Home(home).tls
    if ca:
        tls.path.mkdir(mode=0o700, exist_ok=True)
    return tls if ca or tls.ca.exists() else None


def _url(site: str, tls: TlsFiles | None) -> str:
    return settings.check_url(site if "://" in site else f"{'https' if tls else 'http'}://{site}")


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
