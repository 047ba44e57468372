"""Asks the servers elsewhere now and then whether they answer, so that people see it before their requests do.

A request goes to an upstream whatever is known of it: what it says itself is the better answer.
"""

from __future__ import annotations

import asyncio

from mycelium.base.ids import JobId
from mycelium.inference.commands import SeenReplica
from mycelium.serve.gateway.fleet import Fleet
from mycelium.serve.gateway.table import DeploymentRow
from mycelium.serve.http1.client import Broken, HttpClient

LOOK_S = 3.0
ANSWER_S = 10.0
ANSWER_BYTES_MAX = 1 << 20


def name_of(deployment: str) -> JobId:
    """What an upstream is called where replicas have their job."""
    return JobId(f"upstream {deployment}")


class Upstreams:
    def __init__(self, client: HttpClient, fleet: Fleet) -> None:
        self._client = client
        self._fleet = fleet
        self._faults: dict[str, str] = {}  # by deployment; empty: it answered

    async def watch_for_ever(self) -> None:
        while True:
            rows = [row for row in self._fleet.deployments.values() if row.upstream]
            self._faults = {row.name: self._faults[row.name] for row in rows if row.name in self._faults}
            await asyncio.gather(*(self._look(row) for row in rows))
            # One that was just named is asked soon.
            await asyncio.sleep(LOOK_S if rows else LOOK_S / 10)

    async def _look(self, row: DeploymentRow) -> None:
        member = self._fleet.members.get(name_of(row.name))
        if member is None:
            return
        headers = {"authorization": f"Bearer {row.upstream_key}"} if row.upstream_key else {}
        try:
            async with asyncio.timeout(ANSWER_S):
                reply = await self._client.send(member.target, "GET", "/models", headers=headers)
                try:
                    await reply.read(ANSWER_BYTES_MAX)
                finally:
                    reply.close()
            fault = "" if reply.status < 400 else f"it answers {reply.status} when it is asked for its models"
            if reply.status in (404, 405):  # it has no such list, and answers
                fault = ""
        except (Broken, TimeoutError) as error:
            fault = str(error) or "no answer in time"
        self._faults[row.name] = fault

    def seen(self) -> tuple[SeenReplica, ...]:
        found: list[SeenReplica] = []
        for name, fault in self._faults.items():
            member = self._fleet.members.get(name_of(name))
            if member is not None:
                rate, ttft_ms = round(member.rate_now(), 2), round(member.ttft_ms)
                counts = (member.requests, member.generated)
                found.append(
                    SeenReplica(member.job, 0, not fault, member.active, 0, rate, ttft_ms, *counts, fault, member.lines)
                )
        return tuple(found)
