"""The replicas as this gateway sees them: who waits for a place, who has one, and which replicas answer.

Never: speaks HTTP with a client, or believes that a replica lives because the head says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Mapping, Sequence

from mycelium.base.ids import JobId
from mycelium.base.limits import QUEUE_KEY_REQUESTS_MAX, QUEUE_REQUESTS_MAX
from mycelium.inference.commands import DeploymentQueue, SeenReplica
from mycelium.inference.fair import FairQueue
from mycelium.inference.router import RoutedReplica, Who, choose, make_room
from mycelium.serve.gateway.errors import too_many
from mycelium.serve.gateway.table import DeploymentRow, GatewayTable, ReplicaRow
from mycelium.serve.http1.client import Broken, HttpClient, Target, target_of

PROBE_S, PROBE_READY_S = 0.15, 2.0
PROBE_TIMEOUT_S = 5.0
BUSY_S = 10.0  # a replica that says nothing for longer gets no new requests until it does
RATE_OVER_S = 5.0
PEOPLE_S = 20.0  # how long after an answer its reader is taken to ask again; batches keep back for that long


class Member(RoutedReplica):
    """A replica, or the upstream of a deployment that has none of its own (then `attempt` is 0)."""

    def __init__(self, row: ReplicaRow | None, deployment: DeploymentRow) -> None:
        super().__init__(row.job if row else JobId(f"upstream {deployment.name}"), deployment.name, deployment.parallel)
        self.attempt = row.attempt if row else 0
        self.target = Target(row.socket, gate=row.gate) if row else target_of(deployment.upstream)
        self.heard_s = time.monotonic()
        self.probed_s = 0.0
        self.requests = 0
        self.generated = 0
        self.rate = 0.0  # tokens a second, lately
        self.ttft_ms = 0.0
        self._rate_at = time.monotonic()

    def count(self, tokens: int) -> None:
        now = time.monotonic()
        self.generated += tokens
        self.rate = self.rate * 0.5 ** ((now - self._rate_at) / RATE_OVER_S) + tokens * 0.693 / RATE_OVER_S
        self._rate_at = now

    def rate_now(self) -> float:
        return self.rate * 0.5 ** ((time.monotonic() - self._rate_at) / RATE_OVER_S)


class Waiter:
    def __init__(self, key: str, blocks: Sequence[int], tokens: int, batch: bool, avoid: frozenset[JobId]) -> None:
        self.key = key
        self.blocks = blocks
        self.tokens = tokens
        self.batch = batch
        self.avoid = avoid
        self.lined_up = True
        self.granted: asyncio.Future[Member] = asyncio.get_running_loop().create_future()
        self.since = time.monotonic()


class Fleet:
    def __init__(self, client: HttpClient) -> None:
        self._client = client
        self.deployments: dict[str, DeploymentRow] = {}
        self.members: dict[JobId, Member] = {}
        self._queues: dict[str, FairQueue[Waiter]] = {}
        self._people_until_s: dict[str, float] = {}
        self._answering: dict[tuple[str, str], int] = {}  # by deployment and key: answers under way
        self._probing: set[asyncio.Task[None]] = set()
        self._oldest: dict[str, dict[int, float]] = {}

    def told(self, table: GatewayTable) -> None:
        """The table has changed."""
        self.deployments = {row.name: row for row in table.deployments}
        rows = {row.job: row for row in table.replicas if row.deployment in self.deployments}
        for job, member in list(self.members.items()):
            row = rows.get(job)
            deployment = self.deployments.get(member.deployment)
            same = row is not None and row.attempt == member.attempt
            upstream = (
                deployment is not None and member.attempt == 0 and target_of(deployment.upstream) == member.target
            )
            if not (same or (upstream and not row)):
                del self.members[job]
                self._client.forget(member.target)
                member.ready = False
        for job, row in rows.items():
            member = self.members.get(job)
            if member is None:
                member = self.members[job] = Member(row, self.deployments[row.deployment])
            self._follow(member, row)
            member.draining = row.draining
            member.parallel = self.deployments[row.deployment].parallel
        for deployment in self.deployments.values():
            job = JobId(f"upstream {deployment.name}")
            if deployment.upstream and job not in self.members:
                self.members[job] = Member(None, deployment)
                self.members[job].ready = True
        for name in list(self._queues):
            self.pump(name)

    def _follow(self, member: Member, row: ReplicaRow) -> None:
        """The way to a replica on another machine is another one when `myc join` was started again there."""
        target = Target(row.socket, gate=row.gate)
        if target != member.target and (row.socket or row.gate):
            self._client.forget(member.target)
            member.target = target

    def busy_elsewhere(self, people: Mapping[JobId, int], lines: Mapping[JobId, int]) -> None:
        """The requests that replicas have of other gateways: batches keep back for their people too."""
        for member in self.members.values():
            member.people_elsewhere, member.lines_elsewhere = people.get(member.job, 0), lines.get(member.job, 0)
            if member.people_elsewhere:
                self._people_until_s[member.deployment] = time.monotonic() + PEOPLE_S

    # Places.

    @contextlib.asynccontextmanager
    async def place(
        self, key: str, deployment: str, blocks: Sequence[int], tokens: int, *, batch: bool, avoid: frozenset[JobId]
    ) -> AsyncGenerator[Member]:
        """A place on a replica, for as long as the context lasts. Errors: `ApiError` 429 when the queue is full."""
        waiter = Waiter(key, blocks, tokens, batch, avoid)
        member = await self._wait(key, deployment, waiter)
        try:
            yield member
        finally:
            self._give_back(member, waiter)

    async def _wait(self, key: str, deployment: str, waiter: Waiter) -> Member:
        queue = self._queues.setdefault(deployment, FairQueue())
        if len(queue) == 0 and (not waiter.batch or not queue.batch_lines):
            found = self._take(deployment, waiter)
            if found is not None:
                queue.pass_by(key, waiter.tokens, batch=waiter.batch)
                return found
        if not waiter.batch and len(queue) >= QUEUE_REQUESTS_MAX:
            raise too_many(f"{len(queue)} requests wait for {deployment}; try again later", 2.0)
        if not waiter.batch and queue.waiting_of(key) >= QUEUE_KEY_REQUESTS_MAX:
            raise too_many(f"{queue.waiting_of(key)} requests of this key wait already", 2.0)
        number = queue.push(key, waiter.tokens, waiter, batch=waiter.batch)
        since = self._oldest.setdefault(deployment, {})
        if not waiter.batch:
            since[number] = waiter.since
            self.pump(deployment)  # there may be a place for this key that was none for those who wait already
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.done() and not waiter.granted.cancelled():
                # It was granted a place in the moment in which it gave up.
                self._give_back(waiter.granted.result(), waiter)
            elif waiter.lined_up:
                queue.drop(number, key, batch=waiter.batch)
            raise
        finally:
            since.pop(number, None)

    def _give_back(self, member: Member, waiter: Waiter) -> None:
        member.end(waiter.tokens, batch=waiter.batch)
        if not waiter.batch:
            place = (member.deployment, waiter.key)
            self._answering[place] -= 1
            if not self._answering[place]:
                del self._answering[place]
            self._people_until_s[member.deployment] = time.monotonic() + PEOPLE_S
        self.pump(member.deployment)

    def _who(self, deployment: str, key: str, batch: bool) -> Who:
        if batch:
            return Who.LINE
        return Who.MORE if (deployment, key) in self._answering else Who.FIRST

    def _take(self, deployment: str, waiter: Waiter) -> Member | None:
        mine, who = self._of(deployment), self._who(deployment, waiter.key, waiter.batch)
        found = choose(mine, deployment, waiter.blocks, who, waiter.avoid)
        if found is None and waiter.avoid:  # better the one that failed than none, once it answers again
            found = choose(mine, deployment, waiter.blocks, who)
        if not isinstance(found, Member):
            return None
        found.begin(waiter.blocks, waiter.tokens, batch=waiter.batch)
        if not waiter.batch:
            place = (deployment, waiter.key)
            self._answering[place] = self._answering.get(place, 0) + 1
            found.asked_s = time.monotonic()
        return found

    def pump(self, deployment: str) -> None:
        """Give free places to those who are next."""
        queue = self._queues.get(deployment)
        if queue is None:
            return
        for_whom: set[Who] = set()
        while len(queue) or queue.batch_lines:
            mine = self._of(deployment)
            for_whom.clear()
            for_whom.update(who for who in Who if any(member.free(who) for member in mine))
            waiter = queue.pop(lambda key, batch: self._who(deployment, key, batch) in for_whom)
            if waiter is None:
                return
            waiter.lined_up = False
            if waiter.granted.done():
                continue
            found = self._take(deployment, waiter)
            assert found is not None, "a free place was seen a moment ago"
            waiter.granted.set_result(found)

    def _of(self, deployment: str) -> list[Member]:
        mine = [member for member in self.members.values() if member.deployment == deployment]
        people = time.monotonic() < self._people_until_s.get(deployment, 0.0)
        make_room(mine, people or any(member.people for member in mine))
        return mine

    # Health.

    def suspect(self, member: Member) -> None:
        """It broke off: nobody is sent there until it answers again."""
        if member.attempt:
            member.ready = False
            member.probed_s = 0.0

    async def probe_for_ever(self) -> None:
        while True:
            now = time.monotonic()
            for member in self.members.values():
                wait_s = PROBE_READY_S if member.ready else PROBE_S
                if member.attempt and now - member.probed_s >= wait_s:
                    member.probed_s = now + PROBE_TIMEOUT_S  # not again before this one has ended
                    task = asyncio.create_task(self._probe(member))
                    self._probing.add(task)
                    task.add_done_callback(self._probing.discard)
            await asyncio.sleep(PROBE_S / 2)

    async def _probe(self, member: Member) -> None:
        good = False
        with contextlib.suppress(Broken, TimeoutError):
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                reply = await self._client.send(member.target, "GET", "/health")
                try:
                    await reply.read(1 << 16)
                    good = reply.status == 200
                finally:
                    reply.close()
        now = time.monotonic()
        member.probed_s = now
        if good:
            member.heard_s = now
        elif member.active and member.ready and now - member.heard_s < BUSY_S:
            return  # busy, perhaps: its requests will tell
        if self.members.get(member.job) is member and member.ready != good:
            member.ready = good
            self.pump(member.deployment)

    # What the head wants to know.

    def queues(self) -> tuple[DeploymentQueue, ...]:
        now = time.monotonic()
        told: list[DeploymentQueue] = []
        for name in self.deployments:
            queue = self._queues.get(name)
            mine = [member for member in self.members.values() if member.deployment == name]
            active, lines = sum(member.active for member in mine), sum(member.lines for member in mine)
            since = self._oldest.get(name) or {}
            told.append(
                DeploymentQueue(
                    name,
                    len(queue) if queue else 0,
                    active - lines,
                    round((now - min(since.values())) * 1000) if since else 0,
                    lines + (queue.batch_lines if queue else 0),
                )
            )
        return tuple(told)

    def seen(self) -> tuple[SeenReplica, ...]:
        now = time.monotonic()
        return tuple(
            SeenReplica(
                member.job,
                member.attempt,
                member.ready,
                member.active,
                round((now - member.heard_s) * 1000),
                round(member.rate_now(), 2),
                round(member.ttft_ms),
                member.requests,
                member.generated,
                lines=member.lines,
            )
            for member in self.members.values()
            if member.attempt
        )
