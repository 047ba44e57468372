"""When a waiting job is expected to start: the same plan, run forward over the ends of running tasks.

Tasks are taken to run as long as the finished tasks of their array did on average, else to their time limits. Ends
close to each other (a sixteenth of the time from now) are taken together, so a far start is a little late.
Never: knows of jobs that will be submitted, nodes that will come or go, or dependencies that will be met.
Cost: bounded by a budget of work; where it does not reach, the answer is a bound and says so.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

import numpy as np
from msgspec import Struct

from mycelium.base.ids import NodeId, account_id, job_id, number_of
from mycelium.base.limits import FORECAST_WORK_MAX, GRACE_MS, HOLDERS_NAMED, PLACEMENTS_PER_PASS
from mycelium.base.units import MS_NS, format_time_ms
from mycelium.jobs.fit import Fit
from mycelium.jobs.model import Job, Site
from mycelium.jobs.plan import Pass, Placement
from mycelium.jobs.queue import Queue, shape_of
from mycelium.jobs.reserve import end_ns, leased_tasks
from mycelium.jobs.running import Means, Rows, RunningRanks, likely
from mycelium.jobs.table import DEVICES
from mycelium.jobs.world import World, last_waiting, siblings_before

STARTS_FOR_PACE = 16  # tasks of an array seen to start before their pace is believed
AFTER_FORESEEN = 8  # dependencies of one job that are looked at; each may take a look ahead of its own


class Sure(StrEnum):
    """What a forecast says of the start."""

    NOW = "now"
    ABOUT = "about"
    NOT_BEFORE = "not before"
    NEVER = "never"  # not as the site is now
    UNKNOWN = "unknown"


class Expected(Struct, frozen=True):
    """When, where, and on what that rests. `start_ns` is None for NEVER and UNKNOWN."""

    sure: Sure
    start_ns: int | None = None
    in_ms: int | None = None
    nodes: tuple[NodeId, ...] = ()
    rests_on: tuple[str, ...] = ()
    by_averages: bool = False
    by_pace: bool = False  # reckoned from how fast the tasks before it start, beyond what was looked at
    at_limits_ms: int | None = None  # where averages were used: in how long, if every task runs to its time limit

    def sooner_than(self, other: Expected) -> bool:
        """Whether this is known to come well before the other (by a twentieth of the wait), or at all."""
        if other.sure is Sure.NEVER and self.sure is Sure.NOT_BEFORE:
            return True
        if self.sure not in (Sure.NOW, Sure.ABOUT) or self.in_ms is None or other.sure is Sure.NOW:
            return False
        if other.in_ms is None:
            return True
        if self.by_pace:
            return self.in_ms * 4 < other.in_ms * 3  # two paces differ by chance
        return self.in_ms * 20 < other.in_ms * 19


class Outlook:
    """What several forecasts from one moment share: the running tasks, read once."""

    def __init__(self, site: Site, queue: Queue, now_ns: int) -> None:
        self.site = site
        self.queue = queue
        self.now_ns = now_ns
        self._running: dict[bool, tuple[RunningRanks, Means]] = {}

    def running(self, use_means: bool) -> tuple[RunningRanks, Means]:
        known = self._running.get(use_means)
        if known is None:
            means = Means(use_means)
            known = self._running[use_means] = RunningRanks.of(self.site, self.queue, self.now_ns, means), means
        return known

    def world(self, job: Job) -> World:
        """The site with this version of the job."""
        return World(self.site, self.queue, self.now_ns, swap=job, held=self.running(True)[0].leases)


class Future:
    """A world that moves on: tasks end, others are placed."""

    def __init__(self, world: World, running: RunningRanks, means: Means) -> None:
        self.world = world
        self.running = running
        self.means = means
        self.by_mean = 0  # of the tasks that have ended: how many by a mean, and how many by their limits
        self.limited: Counter[int] = Counter()  # by limits: how many of each job
        world.used = world.used.copy()
        world.held = running.leases

    def place(self, given: list[Placement]) -> None:
        """These tasks have started."""
        if not given:
            return
        now_ns = self.world.now_ns
        rows = Rows()
        for one in given:
            limit_ns = now_ns + one.job.request.time_ms * MS_NS
            mean_ms = self.means.of(one.job)
            likely_ns = limit_ns if mean_ms is None else min(limit_ns, now_ns + mean_ms * MS_NS)
            rows.add(one.job, one.slots, limit_ns, likely_ns, mean_ms is not None)
        new = rows.running()
        self._count(new, 1)
        self.running += new
        self.world.held = self.running.leases

    def advance(self, from_ns: int) -> bool:
        """Move on to the next ends; False when nothing runs any more."""
        running, world = self.running, self.world
        if not len(running.ends_ns):
            return False
        next_ns = int(running.ends_ns.min())
        over = running.ends_ns <= next_ns + (next_ns - from_ns) // 16
        ended, rest = running.kept(np.flatnonzero(over)), running.kept(np.flatnonzero(~over))
        world.now_ns = max(world.now_ns, int(ended.ends_ns.max()))
        self._count(ended, -1)
        first = ended.jobs > 0
        self.by_mean += int((ended.by_mean & first).sum())
        self.limited.update(ended.jobs[first & ~ended.by_mean].tolist())
        for number in ended.jobs[first].tolist():
            world.make_room(number)
        rest.leases = rest.leases.honest(world.now_ns, GRACE_MS * MS_NS)
        self.running, world.held = rest, rest.leases
        return True

    def _count(self, rows: RunningRanks, sign: int) -> None:
        """What these rows hold is taken (1) or given back (-1)."""
        leases, world = rows.leases, self.world
        size = world.used.shape[1]
        for row in range(DEVICES):
            world.used[row] += sign * np.bincount(leases.slots, leases.devices[row], size).astype(np.int64)
        for payer in np.unique(rows.payers).tolist():
            world.hold(account_id(payer), sign * int(rows.rates_m[rows.payers == payer].sum()))


class Budget:
    """Work that may still be spent. One unit is about a fifth of a millisecond: a pass over a small site."""

    def __init__(self, work: int) -> None:
        self.work = work

    @property
    def spent(self) -> bool:
        return self.work <= 0

    def spend(self, world: World, placed: int) -> None:
        """One pass over this world, which placed so many."""
        self.work -= 1 + (len(world.table) + 4 * world.queue.lines) // 150 + placed // 10

    def part(self, share: int) -> Budget:
        """A budget of one part in `share` of what is left."""
        part = Budget(max(1, self.work // share))
        self.work -= part.work
        return part


def forecast(
    outlook: Outlook,
    job: Job,
    *,
    index: int | None = None,
    use_means: bool = True,
    budget: Budget | None = None,
    within_ns: int | None = None,
) -> Expected:
    """When a task of `job` is expected to start: the next one, or that of `index`.

    `job` counts as the queue's job of that id; it may be another version of it, or one that was never submitted.
    A search ends early when nothing started `within_ns`. Where it does not reach a task of an array, the pace at which
    the tasks before it start says the rest.
    """
    budget = budget or Budget(FORECAST_WORK_MAX)
    number, now_ns = number_of(job.id), outlook.now_ns
    world = outlook.world(job)
    fit = Fit(world.table, world.used)
    if not fit.ever(fit.wanted(shape_of(job.request))):
        return Expected(Sure.NEVER)
    future: Future | None = None
    started = 0
    while not budget.spent:
        given = Pass(world).run(PLACEMENTS_PER_PASS, until=number if index is None else 0)
        budget.spend(world, len(given))
        for one in given:
            if one.job.id == job.id and index in (None, one.index):
                return _started(world, future, one, now_ns)
            started += one.job.id == job.id
        future = future or Future(world, *outlook.running(use_means))
        future.place(given)
        if len(given) >= PLACEMENTS_PER_PASS:
            continue
        if not future.advance(now_ns):
            return Expected(Sure.UNKNOWN)
        if within_ns is not None and world.now_ns > now_ns + within_ns:
            break
    in_ms = (world.now_ns - now_ns) // MS_NS
    if future is not None and index is not None and in_ms and started >= STARTS_FOR_PACE:
        in_ms = in_ms * siblings_before(job, index) // started
        rests = _rests_on(future, at_a_pace=True)
        return Expected(Sure.ABOUT, now_ns + in_ms * MS_NS, in_ms, (), rests, future.by_mean > 0, by_pace=True)
    return Expected(Sure.NOT_BEFORE, world.now_ns, in_ms, rests_on=_rests_on(future))


def after(outlook: Outlook, job: Job) -> Expected:
    """When the jobs that a blocked job comes after end at the latest, so far as what runs and waits now says it."""
    ends: list[int] = []
    said: list[str] = []
    for name in job.waits_for[:AFTER_FORESEEN]:
        other = outlook.site.jobs.by_id.get(name)
        if other is None or other.waits_for:
            return Expected(Sure.UNKNOWN)
        mean_ms = outlook.running(True)[1].of(other)
        for task in leased_tasks(other):
            limit_ns = end_ns(other, task, outlook.now_ns)
            ends.append(limit_ns if mean_ms is None else likely(task, limit_ns, mean_ms, outlook.now_ns))
        if other.waiting:
            start = forecast(outlook, other, index=last_waiting(other))
            if start.start_ns is None or start.sure is Sure.NOT_BEFORE:
                return Expected(Sure.UNKNOWN)
            ends.append(start.start_ns + (mean_ms or other.request.time_ms) * MS_NS)
        said.append(_as_long_as(other, mean_ms))
    if not ends or len(job.waits_for) > AFTER_FORESEEN:
        return Expected(Sure.UNKNOWN)
    end = max(ends)
    return Expected(Sure.ABOUT, end, (end - outlook.now_ns) // MS_NS, (), (*said, "room being free by then"))


def _started(world: World, future: Future | None, one: Placement, now_ns: int) -> Expected:
    nodes = tuple(world.table.ids[slot] for slot in one.slots)
    if world.now_ns == now_ns:
        return Expected(Sure.NOW, now_ns, 0, nodes)
    in_ms = (world.now_ns - now_ns) // MS_NS
    by_averages = future is not None and future.by_mean > 0
    return Expected(Sure.ABOUT, world.now_ns, in_ms, nodes, _rests_on(future), by_averages)


def _as_long_as(other: Job, mean_ms: int | None) -> str:
    if mean_ms is not None:
        return f"the tasks of {other.id} taking as long as others of it did on average ({format_time_ms(mean_ms)})"
    whose = "the tasks of " if other.request.array else ""
    return f"{whose}{other.id} taking {'their' if whose else 'its'} whole time limit and ending well"


def _rests_on(future: Future | None, at_a_pace: bool = False) -> tuple[str, ...]:
    if future is None:
        return ()
    said: list[str] = []
    if future.limited:
        said.append(_to_limits(future.limited))
    if future.by_mean:
        means = sorted({ms for ms in future.means.known.values() if ms is not None})
        span = format_time_ms(means[0]) + (f" to {format_time_ms(means[-1])}" if len(means) > 1 else "")
        said.append(f"{_tasks(future.by_mean)} taking as long as others of the same array did on average ({span})")
    if at_a_pace:
        said.append("the tasks before it going on to start as fast as the first of them")
    return (*said, "nobody else submitting", "the nodes staying as they are")


def _to_limits(limited: Counter[int]) -> str:
    """Whose tasks run to their limits: the jobs by name, where they are few."""
    count = limited.total()
    names = [job_id(number) for number in sorted(limited)]
    if count == 1:
        return f"{names[0]} running to its time limit"
    if len(names) <= HOLDERS_NAMED and count == len(names):
        return f"{', '.join(names[:-1])} and {names[-1]} running to their time limits"
    listed = ", ".join(names[:HOLDERS_NAMED])
    more = f" and {len(names) - HOLDERS_NAMED:,} more jobs" if len(names) > HOLDERS_NAMED else ""
    return f"{_tasks(count)} of {listed}{more} running to their time limits"


def _tasks(count: int) -> str:
    return f"{count:,} tasks" if count != 1 else "1 task"
