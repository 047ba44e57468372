"""The way into a replica on another machine: who has no proof, or names no service, gets nowhere."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mycelium.agent.steps.prepare import write_spec
from mycelium.base.ids import NodeId, StepId
from mycelium.engine.orders import Sandbox, Step
from mycelium.engine.passage import OPEN, Gate, Passage, key_of, pass_through
from mycelium.engine.spec import Spec
from mycelium.nodes.model import Devices

STEP = StepId("job-1-a1-r0")
KEY = key_of("the gateway's token", "this machine")


@pytest.fixture
def home() -> Iterator[Path]:
    """A short path, because what listens here binds by it."""
    with tempfile.TemporaryDirectory(prefix="myc") as directory:
        yield Path(directory)


class Machine:
    """A machine with one step of a service that echoes, and one step of a job that ends some day."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.passage = Passage(home, "127.0.0.1")
        self.left = 0  # connections that the service has seen end
        self.two_left = asyncio.Event()

    def gate(self, **changed: str) -> Gate:
        step = StepId(changed.get("step", STEP))
        return Gate(self.passage.address, changed.get("key", KEY), NodeId(changed.get("node", "node-2")), step)

    def step(self, name: str, *, service: bool) -> Path:
        work = self.home / "nodes" / "node-2" / "steps" / name / "work"
        work.mkdir(parents=True)
        step = Step(StepId(name), ("serve",), Devices(), 1000, 0, Sandbox.PROCESS, service=service)
        write_spec(Spec(step), work.parent)
        return work

    async def echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            if data == b"end":
                break
        writer.close()
        self.left += 1
        if self.left == 2:
            self.two_left.set()


@contextlib.asynccontextmanager
async def machine(home: Path) -> AsyncIterator[Machine]:
    made = Machine(home)
    service = await asyncio.start_unix_server(made.echo, str(made.step(STEP, service=True) / "replica.sock"))
    job = await asyncio.start_unix_server(made.echo, str(made.step("job-2-a1-r0", service=False) / "replica.sock"))
    made.passage.open(KEY, None)
    try:
        yield made
    finally:
        made.passage.close()
        for server in (service, job):
            server.close()


def test_bytes_pass_both_ways_until_either_end_closes(home: Path) -> None:
    async def go() -> None:
        async with machine(home) as there:
            reader, writer = await pass_through(there.gate(), 1 << 16)
            many = bytes(range(256)) * 4096
            writer.write(many)
            assert await reader.readexactly(len(many)) == many
            writer.write(b"end")
            assert await reader.read() == b"end", "what the service said last came through before the end"
            reader, writer = await pass_through(there.gate(), 1 << 16)
            writer.close()
            await there.two_left.wait()

    asyncio.run(go())


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"key": key_of("the gateway's token", "another machine")}, "proof"),
        ({"key": ""}, "no key is known"),
        ({"step": "job-2-a1-r0"}, "is not a service"),
        ({"step": "job-3-a1-r0"}, "is not a service"),
        ({"step": "../../x"}, "not the name of a step"),
        ({"node": "../node-2"}, "not the name of a node"),
    ],
)
def test_who_has_no_proof_or_names_no_service_gets_nowhere(home: Path, changed: dict[str, str], says: str) -> None:
    async def go() -> None:
        async with machine(home) as there:
            with pytest.raises(OSError, match=says):
                await pass_through(there.gate(**changed), 1 << 16)
            assert there.left == 0

    asyncio.run(go())


@pytest.mark.parametrize(
    "said", [b"", b"\n", b"{}\n", b"\xff\xfe\n", b"x" * 200_000, b'{"node":1}\n', b"[" * 900 + b"\n"]
)
def test_a_stranger_is_shown_out_and_the_next_one_let_in(home: Path, said: bytes) -> None:
    async def go() -> None:
        async with machine(home) as there:
            host, _, port = there.passage.address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(said)
            writer.write_eof()
            with contextlib.suppress(ConnectionResetError):  # it did not even read all of it
                assert OPEN not in await reader.read()
            writer.close()
            await pass_through(there.gate(), 1 << 16)

    asyncio.run(go())


def test_a_link_to_another_socket_is_not_followed(home: Path) -> None:
    async def go() -> None:
        async with machine(home) as there:
            (there.step("job-4-a1-r0", service=True) / "replica.sock").symlink_to(
                home / "nodes" / "node-2" / "steps" / STEP / "work" / "replica.sock"
            )
            with pytest.raises(OSError, match="did not let us through"):
                await pass_through(there.gate(step="job-4-a1-r0"), 1 << 16)

    asyncio.run(go())
