"""What is the local engine's own: its socket, its nodes as shares of one machine, and who may knock."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from pathlib import Path

import pytest

from mycelium.base.errors import Conflict, Unavailable
from mycelium.base.ids import NodeId
from mycelium.base.limits import FRAME_BYTES_MAX
from mycelium.base.units import GIB
from mycelium.engine import frames
from mycelium.engine.local import door
from mycelium.engine.local.engine import LocalEngine
from mycelium.engine.orders import WIRE_VERSION, Forget, Hello
from mycelium.engine.seam import NodeUp
from mycelium.nodes.model import Devices
from tests.live.conformance.play import processes_of, running, shell


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def hello(node: str = "node-1", wire: int = WIRE_VERSION) -> bytes:
    return frames.pack(Hello(wire, NodeId(node), "n", "b", Devices(), {}, "127.0.0.1", "0", "3"))


def test_nodes_share_the_machine_and_say_so(home: Path) -> None:
    async def script() -> None:
        cpus = len(os.sched_getaffinity(0))
        async with running(LocalEngine(home, cpus + 1), home, stop_steps=True) as site:
            hellos = [await site.up(NodeId(f"node-{number + 1}")) for number in range(cpus + 1)]
            assert [said.devices.cpu_m for said in hellos] == [1000] * (cpus + 1)
            assert all("virtual" in said.labels for said in hellos)
            assert len({said.devices.memory_bytes for said in hellos}) == 1

    asyncio.run(script())


def test_a_node_says_that_it_has_what_it_was_told_to_say(home: Path) -> None:
    async def script() -> None:
        devices = Devices(64_000, 512 * GIB, 8)
        async with running(LocalEngine(home, [devices], labels=["zone=attic"]), home, stop_steps=True) as site:
            said = await site.up()
            assert said.devices == devices
            assert said.labels["zone"] == "attic"

    asyncio.run(script())


def test_a_home_with_a_long_path_works(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 40)

    async def script() -> None:
        async with running(LocalEngine(home), home, stop_steps=True) as site:
            await site.up()
            place = door.place(home)
            assert not str(place).startswith(str(home))
            assert place.parent.stat().st_mode & 0o777 == 0o700

    asyncio.run(script())
    door.place(home).parent.rmdir()


def test_the_socket_is_for_this_user_alone(home: Path) -> None:
    async def script() -> None:
        async with running(LocalEngine(home), home, stop_steps=True) as site:
            await site.up()
            assert door.place(home).stat().st_mode & 0o777 == 0o600

    asyncio.run(script())


def test_a_second_engine_on_the_same_home_is_refused(home: Path) -> None:
    async def script() -> None:
        async with running(LocalEngine(home), home, stop_steps=True) as site:
            await site.up()
            with pytest.raises(Conflict):
                await LocalEngine(home).start()
            await site.start(shell("job-1-a1-r0", "exit 2"))
            assert (await site.exited("job-1-a1-r0")).exit_code == 2

    asyncio.run(script())


def test_an_order_for_a_node_that_is_not_there_is_unavailable(home: Path) -> None:
    async def script() -> None:
        async with running(LocalEngine(home), home, stop_steps=True) as site:
            await site.up()
            with pytest.raises(Unavailable):
                await site.forget("job-1-a1-r0", NodeId("node-7"))

    asyncio.run(script())


@pytest.mark.parametrize(
    "knock",
    [
        b"",
        b"\0",
        struct.pack("!I", FRAME_BYTES_MAX + 1),
        struct.pack("!I", 0xFFFFFFFF) + b"x" * 100,
        struct.pack("!I", 0),
        struct.pack("!I", 4) + b"\xc1\xc1\xc1\xc1",
        struct.pack("!I", 5) + b"\xdd\xff\xff\xff\xff",
        struct.pack("!I", 2000) + b"\x91" * 2000,
        frames.pack(Forget("job-1-a1-r0")),  # type: ignore[arg-type]
        hello(node="node-99"),
        hello(node="../../etc"),
        hello(wire=999, node="node-99"),
    ],
)
def test_a_strange_knock_costs_its_own_connection_only(home: Path, knock: bytes) -> None:
    async def script() -> None:
        async with running(LocalEngine(home), home, stop_steps=True) as site:
            await site.up()
            reader, writer = await asyncio.open_unix_connection(str(door.place(home)))
            writer.write(knock)
            writer.write_eof()
            async with asyncio.timeout(30):
                await reader.read()
            writer.close()
            await site.start(shell("job-1-a1-r0", "exit 2"))
            assert (await site.exited("job-1-a1-r0")).exit_code == 2
            assert sum(isinstance(said, NodeUp) for said in site.said) == 1

    asyncio.run(script())


def test_garbage_after_a_good_hello_takes_the_node_down_and_its_agent_comes_back(home: Path) -> None:
    async def script() -> None:
        async with running(LocalEngine(home), home, stop_steps=True) as site:
            await site.up()
            here = len(site.said)
            _, writer = await asyncio.open_unix_connection(str(door.place(home)))
            writer.write(hello() + struct.pack("!I", 4) + b"\xc1\xc1\xc1\xc1")
            await site.down(after=here)
            await site.until(
                lambda said: True if isinstance(said, NodeUp) and said.hello.boot != "b" else None, after=here
            )
            writer.close()

    asyncio.run(script())


def test_a_site_that_shrinks_ends_the_steps_of_the_nodes_it_no_longer_has(home: Path) -> None:
    async def before() -> None:
        async with running(LocalEngine(home, 2), home, stop_steps=False) as site:
            for node in ("node-1", "node-2"):
                await site.up(NodeId(node))
                name = f"job-{node[-1]}-a1-r0"
                await site.start(shell(name, "sleep 600"), NodeId(node))
                await site.started(name)

    async def after() -> None:
        async with running(LocalEngine(home, 1), home, stop_steps=True) as site:
            await site.up()
            beat = await site.beat()
            assert [running.step for running in beat.running] == ["job-1-a1-r0"]
            assert not any(
                b"job-2-a1-r0" in words.encode() for words in processes_of(home / "nodes" / "node-2").values()
            )

    asyncio.run(before())
    asyncio.run(after())
    assert processes_of(home) == {}


def test_stopping_a_site_that_is_still_starting_leaves_nothing(home: Path) -> None:
    async def script(wait_s: float) -> None:
        async with running(LocalEngine(home, 2), home, stop_steps=True):
            await asyncio.sleep(wait_s)

    for wait_s in (0, 0.05, 0.15, 0.3):
        asyncio.run(script(wait_s))
        assert processes_of(home) == {}


def test_what_a_killed_head_left_at_the_socket_is_replaced(home: Path) -> None:
    home.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(door.place(home)))

    async def script() -> None:
        async with running(LocalEngine(home), home, stop_steps=True) as site:
            await site.up()

    asyncio.run(script())
    assert not door.place(home).exists()
