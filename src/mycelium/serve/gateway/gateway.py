"""The gateway as a whole: its parts, what it hears from the head, and what it reports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

import msgspec

from mycelium.base import lock
from mycelium.base.errors import Problem
from mycelium.base.home import Home
from mycelium.inference.commands import Others, Report, SeenReplica
from mycelium.sandbox import process
from mycelium.serve.gateway.batches import Batches
from mycelium.serve.gateway.callers import Callers
from mycelium.serve.gateway.completions import Completions
from mycelium.serve.gateway.files import Files
from mycelium.serve.gateway.fleet import Fleet
from mycelium.serve.gateway.link import GatewayLink
from mycelium.serve.gateway.metering import Meter
from mycelium.serve.gateway.relay import Relay
from mycelium.serve.gateway.runner import Runner
from mycelium.serve.gateway.table import GatewayTable
from mycelium.serve.gateway.upstreams import Upstreams
from mycelium.serve.http1.client import HttpClient
from mycelium.store.directory import DirectoryObjects

REPORT_S = 1.0
REPORT_CHANGED_S = 0.1  # when something waits or became ready, the head hears of it sooner
LAST_REPORT_S = 3.0
TURN_S = 0.25  # between two looks whether the gateway that runs the batches is gone


class Gateway:
    def __init__(self, home: Path) -> None:
        self._home = Home(home)
        self.boot = os.urandom(8).hex()
        self.url = ""
        ca = self._home.tls.ca
        self.client = HttpClient(ca if ca.exists() else None)
        self.link = GatewayLink(home, self.client)
        self.fleet = Fleet(self.client)
        self.callers = Callers()
        self.meter = Meter()
        self.relay = Relay(self.fleet, self.client)
        self.completions = Completions(self.fleet, self.relay, self.callers, self.meter)
        self.objects = DirectoryObjects(self._home.objects)
        self.files = Files(self.link, self.objects)
        self.batches = Batches(self.link, self.files)
        self.runner = Runner(self.boot, self.link, self.objects, self.fleet, self.completions)
        self.upstreams = Upstreams(self.client, self.fleet)
        self.told_once = asyncio.Event()

    def told(self, table: GatewayTable) -> None:
        self.callers.told(table)
        self.fleet.told(table)
        self.runner.told(table)
        self.told_once.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.link.follow(self.told))
            group.create_task(self.fleet.probe_for_ever())
            group.create_task(self.upstreams.watch_for_ever())
            group.create_task(self._run_batches())
            group.create_task(self._report_for_ever())

    async def _run_batches(self) -> None:
        """One gateway of a site runs them: the one that has the lock, which the kernel frees when it dies."""
        while True:
            with contextlib.suppress(lock.Busy, OSError):  # a full disk: it is tried again
                lock.take(self._home.batches_lock, process.this(time.time_ns()).encode())
                break
            await asyncio.sleep(TURN_S)
        await self.runner.run()

    async def _report_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        said, said_at, spent_at = None, 0.0, 0.0
        while True:
            now = (
                self.fleet.queues(),
                [(seen.job, seen.attempt, seen.ready, seen.active > 0) for seen in self._seen()],
            )
            if now != said or loop.time() - said_at >= REPORT_S:
                said, said_at = now, loop.time()
                with contextlib.suppress(Problem):
                    spending = said_at - spent_at >= REPORT_S
                    await self._report(spending=spending)
                    spent_at = said_at if spending else spent_at
            await asyncio.sleep(REPORT_CHANGED_S)

    async def _report(self, *, spending: bool = False, last: bool = False) -> None:
        window = self.meter.window(now=last)
        report = Report(
            self.boot, self.url, self.fleet.queues(), self._seen(), *window, self.callers.spent() if spending else None
        )
        others = msgspec.convert(await self.link.do(report), Others)
        self.meter.told(report)
        if spending:
            self.callers.spent_elsewhere(others.spent)
        self.fleet.busy_elsewhere(others.people, others.lines)

    def _seen(self) -> tuple[SeenReplica, ...]:
        return self.fleet.seen() + self.upstreams.seen()

    async def say_the_last(self) -> None:
        """What was used and not yet told, before the process ends."""
        with contextlib.suppress(Problem, TimeoutError):
            async with asyncio.timeout(LAST_REPORT_S):
                while not self.meter.empty():
                    await self._report(last=True)
