"""`python -m mycelium.serve.gateway`: one gateway. The head starts it; nobody else needs to."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from mycelium.base import files, lock
from mycelium.base.home import Home
from mycelium.base.limits import GATEWAY_CONNECTIONS_MAX
from mycelium.sandbox import process
from mycelium.serve.gateway.app import App
from mycelium.serve.gateway.gateway import Gateway
from mycelium.serve.http1.server import Listening

ALREADY = 75  # EX_TEMPFAIL: another gateway of this number has this home
DRAIN_S = 30
HOME_LOOK_S = 1.0
OTHER_FILES = 256
GARBAGE_OBJECTS = 20_000  # a look for cycles after each 700 objects would come every few requests, and find none


def main() -> int:
    parser = argparse.ArgumentParser(prog="mycelium.serve.gateway", allow_abbrev=False)
    parser.add_argument("--home", type=Path, required=True, help="the site's directory")
    parser.add_argument("--number", type=int, default=1, help="which of the site's gateways")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: the one it had before, or any")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    home: Path = options.home.absolute()
    own = Home(home).gateway(options.number)
    try:
        lock.take(own.pid, process.this(time.time_ns()).encode())  # for life
    except lock.Busy:
        print(f"another gateway {options.number} has this home", file=sys.stderr)
        return ALREADY
    _allow_files()
    told = own.json
    asyncio.run(_run(home, told, _listen(options.host, options.port, told), options.host))
    return 0


def _allow_files() -> None:
    """A request is a connection of its client and one to a replica; many systems begin with 1,024 files for both."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * GATEWAY_CONNECTIONS_MAX + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _listen(host: str, port: int, told: Path) -> socket.socket:
    """On the port that was asked for, or the one of the gateway before, or any that is free."""
    for wanted in dict.fromkeys((port or _port_before(told), 0)):
        # The protocol is named, because asyncio sends without delay only on sockets that name it.
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, proto=socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, wanted))
        except OSError:
            listener.close()
            if not wanted:
                raise
        else:
            return listener
    raise AssertionError("unreachable: any port is the last that is tried")


def _port_before(told: Path) -> int:
    try:
        return int(msgspec.json.decode(told.read_bytes())["port"])
    except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError):
        return 0


async def _run(home: Path, told: Path, listener: socket.socket, host: str) -> None:
    gateway = Gateway(home)
    port = listener.getsockname()[1]
    listening = Listening(App(gateway))
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    working = asyncio.create_task(gateway.run())
    gone = asyncio.create_task(_gone(home))
    ending = asyncio.create_task(over.wait())
    try:
        knowing = asyncio.create_task(gateway.told_once.wait())
        await asyncio.wait([knowing, working, gone, ending], return_when=asyncio.FIRST_COMPLETED)
        if knowing.done():
            tls = _tls(home)
            gateway.url = f"{'https' if tls else 'http'}://{host}:{port}"
            await listening.start(listener, tls)
            files.write(told, msgspec.json.encode({"url": gateway.url, "port": port, "pid": os.getpid()}))
            gc.freeze()  # what is there by now stays, and need not be looked through again
            gc.set_threshold(GARBAGE_OBJECTS)
            await asyncio.wait([working, gone, ending], return_when=asyncio.FIRST_COMPLETED)
            await listening.stop(0 if gone.done() else DRAIN_S)
        if not gone.done():
            await gateway.say_the_last()
    finally:
        tasks: list[asyncio.Task[Any]] = [working, gone, ending]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _tls(home: Path) -> ssl.SSLContext | None:
    """The site's own certificate, when its head speaks TLS."""
    url = str(msgspec.json.decode(Home(home).site.read_bytes())["url"])
    if not url.startswith("https:"):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls = Home(home).tls
    context.load_cert_chain(tls.site, tls.site_key)
    return context


async def _gone(home: Path) -> None:
    """Until the site's directory is gone: then there is nobody to serve."""
    while True:
        await asyncio.sleep(HOME_LOOK_S)
        if not home.is_dir():
            return


if __name__ == "__main__":
    sys.exit(main())
