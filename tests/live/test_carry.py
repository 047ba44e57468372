"""Objects between machines: real porters on this one, each with a directory of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mycelium.base import framing, handshake
from mycelium.base.errors import Missing, Unavailable
from mycelium.base.ids import Digest
from mycelium.carry import wire
from mycelium.carry.carried import Carried, forget_other_boots
from mycelium.carry.keeper import PorterKeeper
from mycelium.store.directory import DirectoryObjects
from mycelium.store.objects import digest_of

KEY = "k" * 64


class Machine:
    """A home with a porter that runs in the background of the test."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.home = home
        self.objects = DirectoryObjects(home / "objects")
        self.keeper = PorterKeeper(home, "127.0.0.1", copies=False)
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self.keeper.keep(KEY))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            self._loop.close()

    def carried(self, head: str) -> Carried:
        wire.keep_way(self.home / "way.json", wire.Way(KEY, head))
        return Carried(self.objects, self.home / "way.json", self.keeper.address)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Callable[[str], Machine]]:
    made: list[Machine] = []

    def make(name: str) -> Machine:
        made.append(Machine(tmp_path / name))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_what_is_not_here_is_fetched_and_what_nobody_has_is_missing(machine: Callable[[str], Machine]) -> None:
    head, node = machine("head"), machine("node")
    many = [head.objects.put(os.urandom(size)) for size in (0, 1, 1000, 1 << 20, 3 << 20)]
    nobody = digest_of(b"nobody has this")
    carried = node.carried(head.keeper.address)
    assert carried.missing([*many, nobody]) == [nobody]
    assert [node.objects.read(digest) for digest in many] == [head.objects.read(digest) for digest in many]
    with pytest.raises(Missing):
        carried.read(nobody)


def test_the_head_is_delivered_what_it_lacks(machine: Callable[[str], Machine]) -> None:
    head, node = machine("head"), machine("node")
    made = [node.objects.put(os.urandom(size)) for size in (10, 2 << 20)]
    node.carried(head.keeper.address).deliver([], made)
    assert head.objects.missing(made) == []


def test_altered_bytes_are_refused_and_the_true_ones_taken_from_another(machine: Callable[[str], Machine]) -> None:
    head, liar, node = machine("head"), machine("liar"), machine("node")
    digest = head.objects.put(b"true" * 1000)
    path = liar.objects.root / digest[:2] / digest[2:]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"false" * 800)
    _tell(head, liar, digest)
    for _ in range(5):  # either may be asked first
        assert node.carried(head.keeper.address).read(digest) == b"true" * 1000
        node.objects.delete(digest)


def _tell(head: Machine, holder: Machine, digest: Digest) -> None:
    way = wire.Way(KEY, head.keeper.address)
    with wire.knock(head.keeper.address, way) as line:
        wire.write(line, wire.Have(holder.keeper.address, [digest]))
        assert wire.ask_many(line, wire.Where([digest])) == [[holder.keeper.address]]


def test_a_machine_that_fetched_an_object_is_asked_for_it_when_the_head_lacks_it(
    machine: Callable[[str], Machine],
) -> None:
    head, first, second = machine("head"), machine("first"), machine("second")
    digest = head.objects.put(b"x" * 5000)
    first.carried(head.keeper.address).read(digest)
    head.objects.delete(digest)
    until = time.monotonic() + 30
    while second.carried(head.keeper.address).missing([digest]):
        assert time.monotonic() < until
    assert second.objects.read(digest) == b"x" * 5000


def test_a_transfer_that_breaks_goes_on_where_it_stopped(machine: Callable[[str], Machine]) -> None:
    head, node = machine("head"), machine("node")
    data = os.urandom(20 << 20)
    digest = head.objects.put(data)
    asked: list[int] = []
    weak = _Weak(head.keeper.address, asked)
    assert node.carried(weak.address).read(digest) == data
    assert asked[0] == 0
    assert len(asked) > 1
    assert all(offset > 0 for offset in asked[1:])
    weak.close()


class _Weak:
    """A porter's stand-in that passes questions on and breaks off after some megabytes of the answer."""

    def __init__(self, to: str, asked: list[int]) -> None:
        self._to, self._asked = to, asked
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(line,), daemon=True).start()

    def _pass_on(self, line: socket.socket) -> None:
        way = wire.Way(KEY, self._to)
        try:
            with line, wire.knock(self._to, way) as true:
                wire.let_in(line, KEY)
                question = wire.read_question(line)
                wire.write(true, question)
                if isinstance(question, wire.Want):
                    self._asked.append(question.objects[0][1])
                for _ in range(9):
                    line.sendall(true.recv(1 << 20))
        except OSError:
            return

    def close(self) -> None:
        self._server.close()


def test_who_has_not_the_key_gets_nothing(machine: Callable[[str], Machine]) -> None:
    head = machine("head")
    digest = head.objects.put(b"secret")
    way = wire.Way("wrong", head.keeper.address)
    with pytest.raises(Unavailable, match="not one of our site"):
        wire.knock(way.head, way)
    with wire.connect(way.head, way) as line:  # one who does not look at what the porter shows
        steps = handshake.knock(b"wrong", wire.PURPOSE, os.urandom(handshake.FRESH_BYTES))
        first = next(steps)
        assert isinstance(first, bytes)
        line.sendall(first)
        framing.exactly(line, handshake.FRESH_BYTES + handshake.PROOF_BYTES)
        line.sendall(bytes(handshake.PROOF_BYTES))
        with contextlib.suppress(ConnectionError):  # it is closed already
            wire.write(line, wire.Want([(digest, 0)]))
        with pytest.raises(ConnectionError):
            framing.exactly(line, 1)
    with wire.connect(way.head, way) as line:  # one who does not even begin a handshake
        wire.write(line, wire.Want([(digest, 0)]))
        with pytest.raises(ConnectionError):
            framing.exactly(line, 1)


def test_a_porter_of_another_site_is_asked_for_nothing(machine: Callable[[str], Machine]) -> None:
    node = machine("node")
    with socket.create_server(("127.0.0.1", 0)) as false:
        carried = node.carried(f"127.0.0.1:{false.getsockname()[1]}")
        heard: list[bytes] = []

        def lie() -> None:
            while True:
                try:
                    line, _ = false.accept()
                except OSError:
                    return
                with line, contextlib.suppress(OSError):
                    line.sendall(bytes(handshake.FRESH_BYTES + handshake.PROOF_BYTES))
                    while got := line.recv(4096):
                        heard.append(got)

        liar = threading.Thread(target=lie)
        liar.start()
        digest = digest_of(b"what only we want to know of")
        assert carried.missing([digest]) == [digest]
        false.shutdown(socket.SHUT_RDWR)
        liar.join()
    assert heard
    assert digest.encode() not in b"".join(heard)


@pytest.mark.parametrize(
    "sent", [b"\xff" * 100, b"\0\0\0\x05hello", b"GET / HTTP/1.1\r\n\r\n"], ids=["ones", "text", "http"]
)
def test_hostile_bytes_cost_the_connection_and_nothing_else(machine: Callable[[str], Machine], sent: bytes) -> None:
    head = machine("head")
    digest = head.objects.put(b"still here")
    way = wire.Way(KEY, "")
    with wire.connect(head.keeper.address, way) as line:
        line.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            assert line.recv(10) == b""
    with wire.knock(head.keeper.address, way) as line:  # from one who has the key
        line.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            assert line.recv(10) == b""
    assert machine("node").carried(head.keeper.address).read(digest) == b"still here"


def test_copies_of_before_the_machine_was_started_are_dropped_once(tmp_path: Path) -> None:
    local = DirectoryObjects(tmp_path, durable=False)
    forget_other_boots(local)
    kept = local.put(b"since")
    forget_other_boots(local)
    assert local.has(kept)
    (tmp_path / "boot").write_text("another")
    forget_other_boots(local)
    assert not local.has(kept)


def test_an_absent_head_is_unavailable_and_not_missing(machine: Callable[[str], Machine]) -> None:
    with pytest.raises(Unavailable):
        machine("node").carried("127.0.0.1:1").read(digest_of(b"x"))
