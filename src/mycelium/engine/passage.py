"""The way into a replica on another machine: bytes between a gateway and the socket of one step, both ways.

Each machine that joined opens one port for it. Whoever comes proves with a keyed hash of a fresh number that he is a
gateway of the site. Each machine has a key of its own, so none gets into the replicas of another. The replica itself
still listens on nothing but a Unix socket, and its sandbox has no network.

Never: passes a byte before the proof, or leads to anything but the socket of a service's step.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import socket
import ssl
from pathlib import Path

import msgspec
from msgspec import Struct

from mycelium.base.errors import Problem, Refused, Unavailable
from mycelium.base.home import Home
from mycelium.base.ids import NodeId, StepId, is_node, split_step
from mycelium.base.limits import PASSAGES_MAX
from mycelium.carry.wire import Site
from mycelium.engine import step_files
from mycelium.engine.unix import Pair, cut, open_unix
from mycelium.inference.launch import SOCKET

LINE_BYTES_MAX = 1024
PIECE_BYTES = 64 * 1024
WAITING_CONNECTIONS = 128
PROOF_S = 10.0  # a stranger who says nothing is not listened to for longer
CONNECT_S = 5.0
OPEN = b"open\n"
# A cable that was pulled says nothing: the kernel asks the other end after so many seconds, so often, and gives up.
IDLE_S, BETWEEN_S, ASKED, UNANSWERED_MS = 10, 5, 3, 20_000


class Gate(Struct, frozen=True):
    """How a gateway comes to one step on one machine. `ca` is the file with the site's CA where machines speak TLS."""

    address: str
    key: str
    node: NodeId
    step: StepId
    ca: str = ""


class Wish(Struct, frozen=True):
    node: NodeId
    step: StepId
    proof: str


_wishes = msgspec.json.Decoder(Wish)


def key_of(secret: str, machine: str) -> str:
    """The key of one machine, made from what only the head and its gateways know."""
    return hmac.new(secret.encode(), f"passage {machine}".encode(), "sha256").hexdigest()


def _proof(key: str, fresh: str, node: str, step: str) -> str:
    return hmac.new(key.encode(), f"{fresh} {node} {step}".encode(), "sha256").hexdigest()


class Passage:
    """One machine's. It listens from the start, and lets nobody through before it is told its key."""

    def __init__(self, home: Path, address: str) -> None:
        self._home = home
        self._key = ""
        self._passing: set[asyncio.Task[None]] = set()
        self._serving: asyncio.Task[None] | None = None
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            self._listener.bind((address, 0))
            self._listener.listen(WAITING_CONNECTIONS)
        except OSError as error:
            self._listener.close()
            raise Unavailable(
                f"{address} is no address of this machine: {error.strerror}", hint="`ip address` lists them"
            ) from None
        shown = f"[{address}]" if ":" in address else address
        self.address = f"{shown}:{self._listener.getsockname()[1]}"

    def open(self, key: str, site: Site | None) -> None:
        """Let gateways in who have this key. `site`: our certificate, where the site speaks TLS. May be said again."""
        self._key = key
        if self._serving is None:
            self._serving = asyncio.create_task(self._serve(site))

    async def _serve(self, site: Site | None) -> None:
        context = None
        if site is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(site.certificate, site.key)
        server = await asyncio.start_server(
            self._meet, sock=self._listener, ssl=context, limit=PIECE_BYTES, backlog=WAITING_CONNECTIONS
        )
        await server.serve_forever()

    def close(self) -> None:
        if self._serving is not None:
            self._serving.cancel()
        else:
            self._listener.close()
        for task in self._passing:
            task.cancel()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)
        outer = (reader, writer)
        try:
            _watch(writer)
            inner = await self._let_in(outer)
        except Problem as problem:
            with contextlib.suppress(OSError):
                writer.write(f"{problem.message}\n".encode())
                writer.close()
            return
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            cut(outer)
            return
        try:
            writer.write(OPEN)
            await _both_ways(outer, inner)
        finally:
            cut(inner)  # so that a replica stops working for a gateway that has gone
            writer.close()

    async def _let_in(self, outer: Pair) -> Pair:
        """Errors: `Refused`, `Unavailable`."""
        if len(self._passing) > PASSAGES_MAX:
            raise Unavailable(f"{PASSAGES_MAX} connections pass here already")
        reader, writer = outer
        fresh = os.urandom(16).hex()
        writer.write(fresh.encode() + b"\n")
        async with asyncio.timeout(PROOF_S):
            line = await reader.readuntil(b"\n")
            try:
                wish = _wishes.decode(line[:LINE_BYTES_MAX])
            except (msgspec.DecodeError, UnicodeDecodeError):
                raise Refused("this is no wish") from None
            right = _proof(self._key, fresh, wish.node, wish.step)
            if not self._key or not hmac.compare_digest(right.encode(), wish.proof.encode()):
                raise Refused("the proof is not this site's")
            return await open_unix(str(self._socket(wish)))

    def _socket(self, wish: Wish) -> Path:
        """Where the step listens. Errors: `Refused` for what is no service of this machine."""
        if not is_node(wish.node):
            raise Refused("this is not the name of a node")
        split_step(wish.step)
        directory = Home(self._home).node(wish.node).step(wish.step)
        spec = step_files.read_json(str(directory / step_files.SPEC)) or {}
        if spec.get("step", {}).get("time_ms") != 0:  # every job but a service has a time limit
            raise Refused(f"{wish.step} is no service of this machine")
        return directory / step_files.WORK / SOCKET


async def _both_ways(outer: Pair, inner: Pair) -> None:
    """Until either end closes."""
    ways = [asyncio.create_task(_pass(outer[0], inner[1])), asyncio.create_task(_pass(inner[0], outer[1]))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()


def _watch(writer: asyncio.StreamWriter) -> None:
    """Notice an end that has gone without a word."""
    line: socket.socket = writer.get_extra_info("socket")
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, IDLE_S),
        (socket.TCP_KEEPINTVL, BETWEEN_S),
        (socket.TCP_KEEPCNT, ASKED),
        (socket.TCP_USER_TIMEOUT, UNANSWERED_MS),
        (socket.TCP_NODELAY, 1),
    ):
        line.setsockopt(socket.IPPROTO_TCP, option, value)


async def pass_through(gate: Gate, limit: int) -> Pair:
    """A connection to the replica behind a gate. Errors: `OSError`."""
    host, _, port = gate.address.rpartition(":")
    context = ssl.create_default_context(cafile=gate.ca) if gate.ca else None
    pair = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context, limit=limit)
    try:
        _watch(pair[1])
        fresh = (await pair[0].readuntil(b"\n")).decode().strip()
        wish = Wish(gate.node, gate.step, _proof(gate.key, fresh, gate.node, gate.step))
        pair[1].write(msgspec.json.encode(wish) + b"\n")
        said = await pair[0].readuntil(b"\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, UnicodeDecodeError):
        cut(pair)
        raise OSError("the machine of the replica did not let us through") from None
    except BaseException:
        cut(pair)
        raise
    if said != OPEN:
        cut(pair)
        raise OSError(said.decode(errors="replace").strip()[:200])
    return pair
