"""Places on replicas: who gets the next one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from mycelium.inference.model import Backend, ModelKind
from mycelium.serve.gateway.fleet import Fleet, Member
from mycelium.serve.gateway.table import DeploymentRow, GatewayTable
from mycelium.serve.http1.client import HttpClient


def fleet_of(parallel: int) -> Fleet:
    """One upstream with so many places, and the one that is kept for whoever has none."""
    fleet = Fleet(HttpClient())
    row = DeploymentRow("m", ModelKind.CHAT, Backend.LLAMA, "http://127.0.0.1:1/v1", parallel, 512, "ann", 0, False)
    fleet.told(GatewayTable((row,)))
    return fleet


class Askers:
    """Requests that hold their place until they are let go."""

    def __init__(self, parallel: int) -> None:
        self.fleet = fleet_of(parallel)
        self.got: list[str] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._go: dict[str, asyncio.Event] = {}

    async def ask(self, name: str, key: str, *, batch: bool = False) -> None:
        self._go[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._hold(name, key, batch))
        await settle()

    async def _hold(self, name: str, key: str, batch: bool) -> None:
        async with self.fleet.place(key, "m", (), 10, batch=batch, avoid=frozenset()):
            self.got.append(name)
            await self._go[name].wait()

    async def end(self, name: str) -> None:
        self._go[name].set()
        await settle()

    async def give_up(self, name: str) -> None:
        self._tasks[name].cancel()
        await settle()

    @property
    def member(self) -> Member:
        return next(iter(self.fleet.members.values()))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def play(parallel: int, script: Callable[[Askers], Awaitable[None]]) -> None:
    @asynccontextmanager
    async def asking() -> AsyncIterator[Askers]:
        askers = Askers(parallel)
        yield askers
        for name in list(askers._tasks):
            await askers.give_up(name)
        assert (askers.member.active, askers.member.lines, askers.member.tokens) == (0, 0, 0)

    async def run() -> None:
        async with asking() as askers:
            await script(askers)

    asyncio.run(run())


def test_a_flood_from_one_key_leaves_a_place_for_another():
    async def script(askers: Askers) -> None:
        for number in range(4):
            await askers.ask(f"flood-{number}", "flood")
        assert askers.got == ["flood-0", "flood-1"]
        await askers.ask("calm", "calm")
        assert askers.got[-1] == "calm"
        await askers.end("flood-0")
        assert askers.got[-1] == "calm", "the last place is kept again"
        await askers.ask("third", "third")
        assert askers.got[-1] == "third"
        await askers.end("calm")
        await askers.end("flood-1")
        assert askers.got[-1] == "flood-2"

    play(2, script)


def test_a_person_gets_the_last_place_beside_lines_though_they_have_one_already():
    async def script(askers: Askers) -> None:
        await askers.ask("line-0", "ann", batch=True)
        await askers.ask("line-1", "ann", batch=True)
        await askers.ask("first", "ben")
        assert askers.got == ["line-0", "line-1", "first"]
        await askers.ask("second", "ben")
        await askers.end("line-0")
        assert askers.got[-1] == "second"

    play(2, script)


def test_while_people_ask_lines_have_a_quarter_of_an_only_replica():
    async def script(askers: Askers) -> None:
        await askers.ask("person", "ann")
        for number in range(4):
            await askers.ask(f"line-{number}", "ben", batch=True)
        assert askers.member.lines == 2
        await askers.end("line-0")
        assert askers.member.lines == 2

    play(8, script)


def test_lines_keep_back_for_people_of_another_gateway_but_not_for_its_lines():
    async def script(askers: Askers) -> None:
        replica = askers.member.job
        askers.fleet.busy_elsewhere({replica: 0}, {replica: 1})
        for number in range(6):
            await askers.ask(f"line-{number}", "ben", batch=True)
        assert askers.member.lines == 6
        askers.fleet.busy_elsewhere({replica: 1}, {})
        for number in range(5):
            await askers.end(f"line-{number}")
            await askers.ask(f"more-{number}", "ben", batch=True)
        assert askers.member.lines == 2

    play(8, script)


def test_one_who_gives_up_in_the_moment_of_being_called_is_not_counted_twice():
    async def script(askers: Askers) -> None:
        await askers.ask("one", "a")
        await askers.ask("two", "a")
        askers._tasks["two"].cancel()
        askers._go["one"].set()
        await settle()
        assert askers.fleet.queues()[0].waiting == 0

    play(1, script)
