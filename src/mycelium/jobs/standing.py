"""Where a job stands in the queue: how many are asked before it, who they are, and by which measure.

The order is the plan's, as if each job before it took all that it may: class, then fair share, then age.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from msgspec import Struct

from mycelium.base.ids import AccountId, JobId, number_of
from mycelium.base.limits import AHEAD_SHOWN
from mycelium.jobs.model import Job, Priority, Site
from mycelium.jobs.queue import Queue
from mycelium.jobs.share import growth
from mycelium.jobs.world import World, siblings_before


class Ahead(Struct, frozen=True):
    """A job that is asked before, and its account's figure of fair share."""

    job: JobId
    account: AccountId
    account_name: str
    priority: str
    share: float
    by: str  # the measure: "priority", "fair share" or "age"


class Standing(Struct, frozen=True):
    """`position` counts from 1. The figures of fair share are cpu-seconds per weight: less goes first."""

    position: int
    waiting: int
    by_priority: int  # of those ahead: how many are of a higher class
    by_share: int  # of other accounts that have had less
    by_age: int  # of the same account, and older
    share: float
    ahead: tuple[Ahead, ...]  # the first few
    siblings: int = 0  # tasks of the same array that come before the one that is asked for


def standing(site: Site, queue: Queue, job: Job, now_ns: int, index: int | None = None) -> Standing:
    """Where a job stands that waits, or that would; `index` for one task of it.

    Cost: about a microsecond a job that waits in its class.
    """
    world = World(site, queue, now_ns, swap=job)
    own = int(job.request.priority)
    first: list[Ahead] = []
    above = 0
    for priority in world.classes():
        if priority <= own:
            break
        accounts = queue.classes.get(priority, {})
        above += sum(len(line) for lines in accounts.values() for line in lines.values())
        for other in _in_order(world, priority):
            if len(first) >= AHEAD_SHOWN:
                break
            first.append(_ahead(world, other, "priority"))
    counts = {"fair share": 0, "age": 0}
    for other in _in_order(world, own):
        if other.id == job.id:
            break
        by = "age" if other.account == job.account else "fair share"
        counts[by] += 1
        if len(first) < AHEAD_SHOWN:
            first.append(_ahead(world, other, by))
    position = above + sum(counts.values()) + 1
    waiting = len(queue) + (job.id not in queue.places)
    share = round(world.share(job.account), 1)
    return Standing(
        position,
        waiting,
        above,
        counts["fair share"],
        counts["age"],
        share,
        tuple(first),
        siblings_before(job, index) if index is not None else 0,
    )


def _ahead(world: World, job: Job, by: str) -> Ahead:
    account = world.site.accounts.by_id.get(job.account)
    name = account.name if account else str(job.account)
    share = round(world.share(job.account), 1)
    return Ahead(job.id, job.account, name, Priority(job.request.priority).name.lower(), share, by)


def _in_order(world: World, priority: int) -> Iterator[Job]:
    """The waiting jobs of a class in the order in which the plan would ask them, did each find its place."""
    turns: list[tuple[float, int, int, list[int]]] = []
    for account in world.waiting_accounts(priority):
        numbers: list[int] = []
        for view in world.views(priority, account):
            numbers += (number for number in view.line.waiting() if number != world.without)
            numbers += view.back
        numbers.sort(reverse=True)
        if numbers:
            turns.append((world.share(account), number_of(account), world.weight(account), numbers))
    heapify(turns)
    while turns:
        share, account, weight, numbers = heappop(turns)
        job = world.job(numbers.pop())
        yield job
        if numbers:
            heappush(turns, (share + growth(job.request, weight) * max(1, job.placeable), account, weight, numbers))
