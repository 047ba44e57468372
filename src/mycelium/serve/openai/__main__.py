"""`python -m mycelium.serve.openai`: one gateway. The head starts it; nobody else needs to."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import uvicorn

from mycelium.sandbox import process
from mycelium.serve.openai.app import App
from mycelium.serve.openai.gateway import Gateway

ALREADY = 75  # EX_TEMPFAIL: another gateway has this home
DRAIN_S = 30
HOME_LOOK_S = 1.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="mycelium.serve.openai", allow_abbrev=False)
    parser.add_argument("--home", type=Path, required=True, help="the site's directory")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: the one it had before, or any")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    held = _lock(options.home / "gateway.pid")
    if held is None:
        print("another gateway has this home", file=sys.stderr)
        return ALREADY
    asyncio.run(_run(options.home.absolute(), _listen(options.host, options.port, options.home), options.host))
    return 0


def _lock(path: Path) -> int | None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    os.ftruncate(fd, 0)
    os.write(fd, process.this(time.time_ns()).encode())
    return fd


def _listen(host: str, port: int, home: Path) -> socket.socket:
    """On the port that was asked for, or the one of the gateway before, or any that is free."""
    for wanted in dict.fromkeys((port or _port_before(home), 0)):
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


def _port_before(home: Path) -> int:
    try:
        return int(msgspec.json.decode((home / "gateway.json").read_bytes())["port"])
    except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError):
        return 0


class _Server(uvicorn.Server):
    """Signals are ours: the last report goes out after the last stream has ended. `listens`: the doors are open."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _run(home: Path, listener: socket.socket, host: str) -> None:
    gateway = Gateway(home)
    port = listener.getsockname()[1]
    gateway.url = f"http://{host}:{port}"
    config = uvicorn.Config(
        App(gateway),
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=DRAIN_S,
        h11_max_incomplete_event_size=64 * 1024,
    )
    server = _Server(config)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, setattr, server, "should_exit", True)
    working = asyncio.create_task(gateway.run())
    watching = asyncio.create_task(_end_with(home, server))
    serving: asyncio.Task[None] | None = None
    try:
        await asyncio.wait(
            [asyncio.create_task(gateway.told_once.wait()), working], return_when=asyncio.FIRST_COMPLETED
        )
        serving = asyncio.create_task(server.serve([listener]))
        await server.listens.wait()
        _tell(home, gateway.url, port)
        await asyncio.wait([serving, working], return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
        await gateway.say_the_last()
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


def _tell(home: Path, url: str, port: int) -> None:
    fresh = home / f".gateway.{os.getpid()}"
    fresh.write_bytes(msgspec.json.encode({"url": url, "port": port, "pid": os.getpid()}))
    fresh.replace(home / "gateway.json")


async def _end_with(home: Path, server: uvicorn.Server) -> None:
    """A gateway whose site's directory is gone has nobody to serve."""
    while True:
        await asyncio.sleep(HOME_LOOK_S)
        if not home.is_dir():
            break
    server.should_exit = server.force_exit = True


if __name__ == "__main__":
    sys.exit(main())
