"""The three doors between machines, on the wire: the key is nowhere on it, and strangers keep nobody out for long."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from mycelium.base import framing, handshake
from mycelium.base.errors import Denied, Problem
from mycelium.base.home import TlsFiles
from mycelium.base.limits import HANDSHAKE_ASKED_BYTES_MAX, STRANGERS_MAX
from mycelium.base.meeting import meet
from mycelium.base.units import MIB
from mycelium.carry import wire
from mycelium.carry.keeper import PorterKeeper
from mycelium.carry.wire import PorterIdentity
from mycelium.engine import passage
from mycelium.engine.passage import Gate, pass_through
from mycelium.pools.gang.door import Door
from mycelium.pools.gang.line import MPI_COMMANDS, POOL, Line, dial
from mycelium.serve.tls import Authority
from mycelium.store.directory import DirectoryObjects
from tests.live import test_carry, test_passage
from tests.live.site import wait_for

SECRET = os.urandom(32).hex()


class Tap:
    """Passes bytes on, both ways, and keeps them."""

    def __init__(self, to: str) -> None:
        host, _, port = to.rpartition(":")
        self._to = (host, int(port))
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.heard: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ours, _ = self._server.accept()
                theirs = socket.create_connection(self._to)
                for way in ((ours, theirs), (theirs, ours)):
                    threading.Thread(target=self._pass, args=way, daemon=True).start()

    def _pass(self, of: socket.socket, to: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := of.recv(1 << 16):
                self.heard.append(data)
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)

    def close(self) -> bytes:
        self._server.close()
        return b"".join(self.heard)


def assert_hidden(key: str, said: bytes) -> None:
    assert len(said) > 100, "there was something to hear"
    for form in (key.encode(), bytes.fromhex(key)):
        for piece in range(0, len(form), 16):
            assert form[piece : piece + 16] not in said


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Callable[[str], test_carry.Machine]]:
    made: list[test_carry.Machine] = []

    def make(name: str) -> test_carry.Machine:
        made.append(test_carry.Machine(tmp_path / name))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def home() -> Iterator[Path]:
    """A short path, because what listens here binds by it."""
    with tempfile.TemporaryDirectory(prefix="myc") as directory:
        yield Path(directory)


# The key on the wire.


def test_the_key_of_the_porters_is_not_on_the_wire(
    machine: Callable[[str], test_carry.Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_carry, "KEY", SECRET)
    head, node = machine("head"), machine("node")
    tap = Tap(head.keeper.address)
    carried = node.carried(tap.address)
    digest = head.objects.put(b"to be fetched")
    assert carried.read(digest) == b"to be fetched"
    made = node.objects.put(b"to be delivered")
    carried.deliver([], [made])
    assert head.objects.has(made)
    said = tap.close()
    assert b"to be fetched" in said
    assert b"to be delivered" in said
    assert_hidden(SECRET, said)


def test_the_key_of_a_passage_is_not_on_the_wire(home: Path) -> None:
    async def go() -> bytes:
        async with test_passage.machine(home) as there:
            tap = Tap(there.passage.address)
            gate = there.gate()
            reader, writer = await pass_through(Gate(tap.address, gate.key, gate.node, gate.step), 1 << 16)
            writer.write(b"a question")
            assert await reader.readexactly(10) == b"a question"
            writer.close()
            return tap.close()

    said = asyncio.run(go())
    assert b"a question" in said
    assert_hidden(test_passage.KEY, said)


def gang_door(purpose: bytes = POOL) -> tuple[Door, str, list[Line]]:
    listener = socket.create_server(("127.0.0.1", 0))
    met: list[Line] = []
    return Door(listener, SECRET, purpose, met.append), f"127.0.0.1:{listener.getsockname()[1]}", met


def test_the_secret_of_a_gang_is_not_on_the_wire_nor_are_the_keys_that_sign_its_messages() -> None:
    door, address, met = gang_door()
    tap = Tap(address)
    theirs = dial("127.0.0.1", tap.port, SECRET, POOL)
    theirs.send("a message")
    wait_for(lambda: met, "the door to let it in")
    ours = met[0]
    assert ours.receive() == "a message"
    ours.send("its answer")
    assert theirs.receive() == "its answer"
    assert (theirs._key_out, theirs._key_in) == (ours._key_in, ours._key_out)
    door.close()
    said = tap.close()
    assert_hidden(SECRET, said)
    for key in (ours._key_in, ours._key_out):
        assert_hidden(key.hex(), said)
    for line in (ours, theirs):
        line.close()


# Strangers.


def test_a_recorded_connection_of_a_gang_is_worth_nothing_in_another() -> None:
    door, address, met = gang_door()
    tap = Tap(address)
    first = dial("127.0.0.1", tap.port, SECRET, POOL)
    first.send("once")
    wait_for(lambda: met, "the door to let it in")
    assert met[0].receive() == "once"
    asked = tap.heard[0]  # the hello; what followed it is said again as it was said
    tap.close()
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as again:
        again.sendall(asked)
        again.recv(1 << 10)
        again.sendall(b"".join(piece for piece in tap.heard[2:]))
        with contextlib.suppress(ConnectionError):
            assert again.recv(1) == b""
    assert len(met) == 1
    door.close()


def test_the_doors_of_a_gang_are_not_open_to_each_other() -> None:
    door, address, met = gang_door(MPI_COMMANDS)
    with pytest.raises(Denied):
        dial("127.0.0.1", int(address.rpartition(":")[2]), SECRET, POOL)
    assert met == []
    door.close()


def test_one_who_says_too_little_at_a_time_is_not_listened_to_for_longer() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        whole = next(handshake.knock(SECRET.encode(), POOL, os.urandom(handshake.FRESH_BYTES)))
        assert isinstance(whole, bytes)
        ended = threading.Event()

        def drip() -> None:
            for byte in whole:
                theirs.send(bytes([byte]))
                if ended.wait(0.05):
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        with pytest.raises(TimeoutError):
            meet(ours, handshake.answer(SECRET.encode(), POOL, os.urandom(handshake.FRESH_BYTES)), within_s=0.3)
        ended.set()
        dripping.join()


def strangers(address: str, said: bytes) -> list[socket.socket]:
    host, _, port = address.rpartition(":")
    come: list[socket.socket] = []
    for _ in range(STRANGERS_MAX):
        stranger = socket.create_connection((host, int(port)))
        come.append(stranger)
        stranger.setblocking(False)
        left = memoryview(said)
        with contextlib.suppress(OSError):  # as much as is taken from it
            while left:
                left = left[stranger.send(left) :]
    return come


def test_strangers_cost_a_porter_no_memory_and_keep_nobody_out(machine: Callable[[str], test_carry.Machine]) -> None:
    head, node = machine("head"), machine("node")
    digest = head.objects.put(b"still here")
    carried = node.carried(head.keeper.address)
    assert carried.read(digest) == b"still here"
    node.objects.delete(digest)
    assert head.keeper._child is not None
    porter = psutil.Process(head.keeper._child.pid)
    before_bytes = porter.memory_info().rss
    frame = framing.pack(bytes(16 * MIB))
    come = strangers(head.keeper.address, frame) + strangers(head.keeper.address, b"myc")
    grown_bytes = porter.memory_info().rss - before_bytes
    assert carried.read(digest) == b"still here"
    assert max(grown_bytes, porter.memory_info().rss - before_bytes) < 64 * MIB
    for stranger in come:
        stranger.close()


def test_strangers_keep_nobody_out_of_a_passage(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = passage.meet_streams
    monkeypatch.setattr(passage, "meet_streams", lambda *words: opened(*words, within_s=1.0))

    async def go() -> None:
        async with test_passage.machine(home) as there:
            come = await asyncio.to_thread(strangers, there.passage.address, b"myc")
            come += await asyncio.to_thread(strangers, there.passage.address, bytes(MIB))
            while True:
                with contextlib.suppress(OSError):  # its own time may be over before it is its turn
                    _, writer = await pass_through(there.gate(), 1 << 16)
                    break
            writer.close()
            for stranger in come:
                stranger.close()

    asyncio.run(go())


def test_a_passage_that_was_not_told_its_key_lets_nobody_in(home: Path) -> None:
    async def go() -> None:
        async with test_passage.machine(home) as there:
            there.passage.open("", None)
            with pytest.raises(OSError, match="did not let us through"):
                await pass_through(there.gate(), 1 << 16)

    asyncio.run(go())


def test_a_wish_that_is_too_long_is_refused(home: Path) -> None:
    async def go() -> None:
        async with test_passage.machine(home) as there:
            with pytest.raises(OSError, match="at most 1024 are read"):
                await pass_through(there.gate(step="x" * HANDSHAKE_ASKED_BYTES_MAX), 1 << 16)
            await pass_through(there.gate(), 1 << 16)

    asyncio.run(go())


# With TLS the handshake is inside of it.


def test_a_passage_with_tls_lets_in_who_has_the_key_and_shows_out_who_speaks_plainly(home: Path) -> None:
    authority = Authority(TlsFiles(home / "tls"))
    certificate, key = authority.own("127.0.0.1")

    async def go() -> None:
        async with test_passage.machine(home) as there:
            there.passage.close()
            there.passage = passage.Passage(home, "127.0.0.1")
            there.passage.open(test_passage.KEY, PorterIdentity(certificate, key))
            plain = there.gate()
            gate = Gate(plain.address, plain.key, plain.node, plain.step, str(authority.files.ca))
            with pytest.raises(OSError, match="did not let us through"):
                await pass_through(plain, 1 << 16)
            with pytest.raises(OSError, match="proof"):
                await pass_through(Gate(gate.address, "another", gate.node, gate.step, gate.ca), 1 << 16)
            reader, writer = await pass_through(gate, 1 << 16)
            many = bytes(range(256)) * 4096
            writer.write(many)
            assert await reader.readexactly(len(many)) == many
            writer.close()

    asyncio.run(go())


def test_a_porter_with_tls_lets_in_who_has_the_key(tmp_path: Path) -> None:
    authority = Authority(TlsFiles(tmp_path / "tls"))
    certificate, key = authority.own("127.0.0.1")
    digest = DirectoryObjects(tmp_path / "objects").put(b"over tls")

    async def go() -> None:
        keeper = PorterKeeper(tmp_path, "127.0.0.1", copies=False, site=PorterIdentity(certificate, key))
        keeping = asyncio.create_task(keeper.keep(SECRET))

        def ask() -> None:
            way = wire.Way(SECRET, keeper.address, str(authority.files.ca))
            with wire.knock(way.head, way) as line:
                assert wire.ask_list(line, wire.Lack([digest])) == []
            for wrong in (wire.Way("another", way.head, way.ca), wire.Way(SECRET, way.head)):
                with pytest.raises(Problem):
                    wire.knock(wrong.head, wrong)

        await asyncio.to_thread(ask)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    asyncio.run(go())
