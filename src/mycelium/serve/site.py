"""A whole site in one process: log, core, engine, loop and doors, wired, and run until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import shutil
import signal
import socket
from collections.abc import Callable, Generator
from pathlib import Path

import msgspec
import uvicorn

from mycelium.accounts.model import Role
from mycelium.accounts.rules import AddAccount
from mycelium.base import files, lock
from mycelium.base.clock import Clock
from mycelium.base.errors import Conflict, Refused, Unavailable
from mycelium.base.home import Home
from mycelium.base.limits import DISK_RESERVE_BYTES
from mycelium.base.subject import SITE
from mycelium.base.units import S_NS, format_size
from mycelium.base.version import __version__
from mycelium.engine.seam import Engine
from mycelium.head.core import Core, HeadSettings, Tick
from mycelium.head.loop import Head
from mycelium.head.retention import LogKeeper
from mycelium.head.settings import SiteSettings, unusable_home
from mycelium.head.sweep import sweep_for_ever
from mycelium.head.views import time_view
from mycelium.jobs.commands import StopAll
from mycelium.jobs.domain import Retention
from mycelium.log import Log, open_log
from mycelium.log.retention import parse_keep
from mycelium.nodes.plan import Patience
from mycelium.serve.engines import check_nodes, check_settings, make_authority, make_engine, open_entrance
from mycelium.serve.http.app import build_app
from mycelium.serve.http.auth import hash_token, new_token
from mycelium.serve.http.ground import Ground
from mycelium.serve.http.programs import Checks
from mycelium.serve.keeper import GatewayKeeper, access
from mycelium.serve.last_word import LastWord
from mycelium.store.directory import DirectoryObjects

STOP_MARGIN_S = 5.0  # beyond the grace period, for what was killed to be reported


class SiteFile(msgspec.Struct):
    """`$MYC_HOME/site.json`: how the commands of this machine find the site that runs here."""

    url: str
    pid: int
    version: str


def run(settings: SiteSettings, ready: Callable[[str], None] = lambda url: None) -> None:
    """Run a site until SIGINT, SIGTERM or `myc down`. `ready` is called with the URL when it answers.

    Errors: `Conflict` when another head has this home, `Unavailable` when the log does not open or the port is taken,
    `Refused` when a newer Mycelium wrote the log.
    """
    check_settings(settings)
    with _home(settings.home) as home:
        try:
            last_word = LastWord(home)
        except OSError as error:
            raise unusable_home(home, error) from None
        # The door comes first: an address or a port that it cannot listen on leaves the home as it was.
        try:
            with _listen(settings.host, settings.port) as door:
                log = open_log(settings.log_url or str(Home(home).log))
                with contextlib.closing(log):
                    asyncio.run(_serve(settings, home, log, door, ready))
        except Exception as error:
            last_word.say(error)
            raise
        finally:
            last_word.close()


async def _serve(
    settings: SiteSettings, home: Path, log: Log, door: socket.socket, ready: Callable[[str], None]
) -> None:
    clock = Clock(not_before_ns=log.last_time_ns)
    core = _restored(log, clock, _settings(settings))
    objects = DirectoryObjects(Home(home).objects)
    check_nodes(settings, core.site.nodes)
    authority = make_authority(settings, home)
    engine = make_engine(settings, home, authority)
    head = Head(core, engine, clock, refusing=lambda: _disk_full(home))
    url = f"{'https' if authority else 'http'}://{settings.host}:{door.getsockname()[1]}"
    goes_down: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()

    def down(by: str, grace_ms: int) -> None:
        if not goes_down.done():
            goes_down.set_result((by, grace_ms))

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, down, "a signal", settings.grace_ms)
    about = {"site": settings.name, "version": __version__, "url": url, "started": time_view(clock.now_ns())}
    upstreams = {name: known.serving.upstream for name, known in core.site.inference.deployments.items()}
    keeper = LogKeeper(core, clock.now_ns, Home(home).exported, parse_keep(settings.log_keep))
    ground = Ground(
        head,
        objects,
        about,
        down,
        access(home, upstreams),
        keeper,
        Checks(Home(home).ca),
        open_entrance(engine, home, authority),
    )
    app = build_app(ground)
    tls = authority.for_uvicorn(settings.host) if authority else {}
    server = _Server(uvicorn.Config(app, log_level="warning", lifespan="off", **tls))
    gateway = GatewayKeeper(home, core, settings.host, settings.gateway_port, settings.gateways)
    await head.start()
    serving = asyncio.create_task(server.serve([door]))
    beside = [
        asyncio.create_task(sweep_for_ever(core, objects, clock)),
        asyncio.create_task(keeper.keep_for_ever()),
        asyncio.create_task(gateway.keep()),  # the last: it ends before the others
    ]
    try:
        await _make_admin(head, home)
        await server.listens.wait()
        files.write(Home(home).site, msgspec.json.encode(SiteFile(url, os.getpid(), __version__)))
        ready(url)
        await asyncio.wait([goes_down, head.failed, serving], return_when=asyncio.FIRST_COMPLETED)
        if goes_down.done():
            beside.pop().cancel()
            await gateway.end(goes_down.result()[1])
            await _wind_down(head, engine, *goes_down.result())
    finally:
        if goes_down.done():  # otherwise it stays, and says that here was a site that nobody stopped
            Home(home).site.unlink(missing_ok=True)
        server.should_exit = True
        server.force_exit = True
        for task in beside:
            task.cancel()
        await asyncio.gather(serving, *beside, return_exceptions=True)
        await head.stop()
    if head.failed.done():
        head.failed.result()


def _settings(chosen: SiteSettings) -> HeadSettings:
    patience = Patience(int(chosen.node_suspect_s * S_NS), int(chosen.node_lost_s * S_NS))
    return HeadSettings((patience, Retention(chosen.retain_ended_s * S_NS)), grace_ms=chosen.grace_ms)


def _restored(log: Log, clock: Clock, settings: HeadSettings) -> Core:
    """The core as the log left it. What is restored lives long: the collector need not walk it, now or later."""
    gc.disable()
    try:
        return Core(log, clock.now_ns(), settings)
    finally:
        gc.freeze()
        gc.enable()


async def _wind_down(head: Head, engine: Engine, by: str, grace_ms: int) -> None:
    """Stop what runs, let its end be reported and committed, then stop the machines."""
    await head.ask(StopAll(by), SITE)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + grace_ms / 1000 + STOP_MARGIN_S
    while head.core.house.busy(head.core.view) and loop.time() < deadline:
        await asyncio.sleep(0.02)
        await head.ask(Tick(), SITE)
    await head.stop()
    await engine.stop(stop_steps=True, grace_ms=grace_ms)


class _Server(uvicorn.Server):
    """Signals are the site's, not the HTTP server's: the doors close last. `listens` is set once they are open."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@contextlib.contextmanager
def _home(path: Path) -> Generator[Path]:
    """The home directory, made 0700 and locked: one head has it at a time."""
    home = path.expanduser().absolute()
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        home.chmod(0o700)
        held = lock.take(Home(home).lock, lock.this_process())
    except lock.Busy as busy:
        raise Conflict(
            f"another head (pid {busy.who or 'unknown'}) has {home}", hint="`myc status` shows it, `myc down` stops it"
        ) from None
    except OSError as error:
        raise unusable_home(home, error) from None
    try:
        yield home
    finally:
        os.close(held)


def _listen(host: str, port: int) -> socket.socket:
    # The protocol is named, because asyncio sends without delay only on sockets that name it.
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise Refused(
                f"{host!r} is not an address of this machine",
                hint="`ip addr` lists its addresses; say one with --address, or with --host for a site of one machine",
            ) from None
        raise Unavailable(
            f"cannot listen on port {port} of {host}: {error.strerror}", hint="choose another --port"
        ) from None
    return listener


def _disk_full(home: Path) -> str:
    """Why nothing new can be accepted, or nothing."""
    free_bytes = shutil.disk_usage(home).free
    if free_bytes >= DISK_RESERVE_BYTES:
        return ""
    return f"the disk of {home} has {format_size(free_bytes)} left; the site needs {format_size(DISK_RESERVE_BYTES)}"


async def _make_admin(head: Head, home: Path) -> None:
    """The first start makes the account `admin` and leaves its token in the home, readable by the owner alone."""
    if head.core.site.accounts.by_id:
        return
    token = new_token()
    path = Home(home).admin_token
    path.parent.mkdir(mode=0o700, exist_ok=True)
    # Before it is valid: a crash between the two leaves a token that is made anew.
    files.write(path, token + "\n", durable=True)
    await head.ask(AddAccount("admin", Role.ADMIN, hash_token(token), SITE.name), SITE)
