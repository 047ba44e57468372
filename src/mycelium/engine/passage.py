"""The way into a replica on another machine: bytes between a gateway and the socket of one step, both ways.

Each machine that joined opens one port for it. Whoever comes names a step, and shows in a handshake that he has the key
of the machine; so does the machine. Each has a key of its own, so none gets into the replicas of another. The replica
itself still listens on nothing but a Unix socket, and its sandbox has no network.

Never: passes a byte before the proof, or leads to anything but the socket of a service's step.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
import socket
import ssl
from pathlib import Path

import msgspec
from msgspec import Struct

from mycelium.base import handshake
from mycelium.base.errors import Problem, Refused, Unavailable
from mycelium.base.home import Home
from mycelium.base.ids import NodeId, StepId, is_node, split_step
from mycelium.base.limits import HANDSHAKE_S, PASSAGES_MAX, STRANGERS_MAX
from mycelium.base.meeting import meet_streams
from mycelium.carry.wire import PorterIdentity
from mycelium.engine import spec, step_files
from mycelium.engine.unix import Pair, cut, open_unix
from mycelium.inference.launch import SOCKET

PURPOSE = b"passage"
PIECE_BYTES = 64 * 1024
WAITING_CONNECTIONS = 1024  # a gateway may open all that may pass at once
ACCEPT_RETRY_S = 0.5
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


_wishes = msgspec.json.Decoder(Wish)
log = logging.getLogger(__name__)


def key_of(secret: str, machine: str) -> str:
    """The key of one machine, made from what only the head and its gateways know."""
    return hmac.new(secret.encode(), f"passage {machine}".encode(), "sha256").hexdigest()


class Passage:
    """One machine's. It listens from the start, and lets nobody through before it is told its key."""

    def __init__(self, home: Path, address: str) -> None:
        self._home = home
        self._key = ""
        self._meetings: set[asyncio.Task[None]] = set()
        self._strangers = asyncio.Semaphore(STRANGERS_MAX)
        self._passing = 0
        self._serving: asyncio.Task[None] | None = None
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            self._listener.bind((address, 0))
            self._listener.listen(WAITING_CONNECTIONS)
            self._listener.setblocking(False)
        except OSError as error:
            self._listener.close()
            raise Unavailable(
                f"{address} is not an address of this machine: {error.strerror}", hint="`ip address` lists them"
            ) from None
        shown = f"[{address}]" if ":" in address else address
        self.address = f"{shown}:{self._listener.getsockname()[1]}"

    def open(self, key: str, site: PorterIdentity | None) -> None:
        """Let gateways in who have this key. `site`: our certificate, where the site speaks TLS. May be said again."""
        self._key = key
        if self._serving is None:
            self._serving = asyncio.create_task(self._serve(site))
            self._serving.add_done_callback(lambda _: self._listener.close())

    async def _serve(self, site: PorterIdentity | None) -> None:
        context = None
        if site is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(site.certificate, site.key)
        loop = asyncio.get_running_loop()
        while True:
            await self._strangers.acquire()
            try:
                sock, _ = await loop.sock_accept(self._listener)
            except OSError as error:  # who knocked has gone, or too many files are open: it passes
                log.warning("nobody is let in for a moment: %s", error)
                self._strangers.release()
                await asyncio.sleep(ACCEPT_RETRY_S)
                continue
            meeting = asyncio.create_task(self._meet(sock, context))
            self._meetings.add(meeting)
            meeting.add_done_callback(self._meetings.discard)

    def close(self) -> None:
        if self._serving is not None:
            self._serving.cancel()
        else:
            self._listener.close()
        for meeting in self._meetings:
            meeting.cancel()

    async def _meet(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        try:
            outer, asked = await self._let_in(sock, context)
        except (Problem, OSError):
            return
        finally:
            self._strangers.release()
        self._passing += 1
        try:
            await self._pass_on(outer, asked)
        except Problem as problem:
            outer[1].write(f"{problem.message}\n".encode())
        except OSError:
            cut(outer)
        finally:
            self._passing -= 1
            outer[1].close()

    async def _let_in(self, sock: socket.socket, context: ssl.SSLContext | None) -> tuple[Pair, bytes]:
        """What is asked for, by one who has shown that he may. Errors: `Denied`, `Refused`, `OSError`."""
        try:
            _watch(sock)
            async with asyncio.timeout(HANDSHAKE_S):
                outer = await _streams(sock, context)
        except BaseException:
            sock.close()
            raise
        try:
            steps = handshake.answer(self._key.encode(), PURPOSE, os.urandom(handshake.FRESH_BYTES))
            return outer, (await meet_streams(*outer, steps)).asked
        except BaseException:
            cut(outer)
            raise

    async def _pass_on(self, outer: Pair, asked: bytes) -> None:
        """Until either end closes. Errors: `Refused`, `Unavailable`, `OSError` when it does not begin."""
        if self._passing > PASSAGES_MAX:
            raise Unavailable(f"{PASSAGES_MAX} connections pass here already")
        try:
            wish = _wishes.decode(asked)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Refused("this is not a wish") from None
        async with asyncio.timeout(CONNECT_S):
            inner = await open_unix(str(self._socket(wish)))
        try:
            outer[1].write(OPEN)
            await _both_ways(outer, inner)
        finally:
            cut(inner)  # so that a replica stops working for a gateway that has gone

    def _socket(self, wish: Wish) -> Path:
        """Where the step listens. Errors: `Refused` for what is no service of this machine."""
        if not is_node(wish.node):
            raise Refused("this is not the name of a node")
        split_step(wish.step)
        directory = Home(self._home).node(wish.node).step(wish.step)
        found = spec.read(str(directory))
        if found is None or not found.step.service:
            raise Refused(f"{wish.step} is not a service of this machine")
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


async def _streams(sock: socket.socket, context: ssl.SSLContext | None) -> Pair:
    """Those of a connection that was accepted."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=PIECE_BYTES)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock, ssl=context)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def _watch(line: socket.socket) -> None:
    """Notice an end that has gone without a word."""
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
        _watch(pair[1].get_extra_info("socket"))
        wish = msgspec.json.encode(Wish(gate.node, gate.step))
        steps = handshake.knock(gate.key.encode(), PURPOSE, os.urandom(handshake.FRESH_BYTES), wish)
        await meet_streams(*pair, steps)
        said = await pair[0].readuntil(b"\n")
    except (Problem, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        cut(pair)
        why = f": {error}" if isinstance(error, Problem | OSError) else ""
        raise OSError(f"the machine of the replica did not let us through{why}") from None
    except BaseException:
        cut(pair)
        raise
    if said != OPEN:
        cut(pair)
        raise OSError(said.decode(errors="replace").strip()[:200])
    return pair
