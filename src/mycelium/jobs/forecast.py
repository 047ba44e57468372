"""When a waiting job is expected to start: the same plan, run forward over the ends of running tasks.

Tasks are taken to run as long as the finished tasks of their array did on average, else to their time limits. Ends
close to each other (a sixteenth of the time from now) are taken together, so a far start is a little late.
Never: knows of jobs that will be submitted, nodes that will come or go, or dependencies that will be met.
Cost: at most `passes` planning passes; where they do not reach, the answer is a bound and says so.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from msgspec import Struct

from mycelium.base.ids import NodeId, job_id, number_of
from mycelium.base.limits import FORECAST_PASSES_MAX, GRACE_MS, PLACEMENTS_PER_PASS, TASKS_AVERAGED_MAX
from mycelium.base.units import MS_NS, format_time_ms
from mycelium.jobs.fit import Fit
from mycelium.jobs.model import Job, Site, TaskState
from mycelium.jobs.plan import Given, Pass
from mycelium.jobs.queue import Queue, shape_of
from mycelium.jobs.reserve import Leases, end_ns, leased_tasks
from mycelium.jobs.share import rate_m
from mycelium.jobs.table import Ints, row_of
from mycelium.jobs.world import World


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

    def sooner_than(self, other: Expected) -> bool:
        """Whether this is a start, and known to come well before the other (by a twentieth of the wait)."""
        if self.sure not in (Sure.NOW, Sure.ABOUT) or self.in_ms is None or other.sure is Sure.NOW:
            return False
        return other.in_ms is None or self.in_ms * 20 < other.in_ms * 19


class Future:
    """A world that moves on: tasks end, others are placed. Rows are ranks of running tasks."""

    def __init__(self, world: World, use_means: bool) -> None:
        self.world = world
        self.use_means = use_means
        self.means_ms: dict[int, int | None] = {}
        self.by_mean = 0  # of the ends gone past, how many rested on a mean
        self.by_limit = 0
        world.used = world.used.copy()
        self._limits: list[int] = []
        self._ends: list[int] = []
        self._slots: list[int] = []
        self._numbers: list[int] = []  # of the job; negative for every rank of a task but its first
        self._from_site()
        self.ends_ns: Ints = np.array(self._ends, dtype=np.int64)
        self.numbers: Ints = np.array(self._numbers, dtype=np.int64)
        needs = [self._needs(number) for number in self._numbers]
        devices = np.array(needs, dtype=np.int64).reshape(-1, 3).T
        world.held = Leases(np.array(self._limits, np.int64), np.array(self._slots, np.int64), devices)

    def _needs(self, number: int) -> tuple[int, int, int]:
        # Running tasks hold what the site's record says, whatever a trial makes of their job.
        job = self.world.site.jobs.by_id[job_id(abs(number))]
        return job.request.needs.cpu_m, job.request.needs.memory_bytes, job.request.needs.gpus

    def _from_site(self) -> None:
        world, slots = self.world, self.world.table.slots
        for name in sorted(world.queue.running, key=number_of):
            job = world.site.jobs.by_id[name]
            for task in leased_tasks(job):
                limit_ns = end_ns(job, task, world.now_ns)
                expected_ns = limit_ns
                mean_ms = self._mean_ms(job)
                if mean_ms is not None and task.state is not TaskState.STOPPING:
                    likely_ns = (task.started_ns or task.placed_ns) + mean_ms * MS_NS
                    # A task that has outlived the mean says nothing but that its limit still holds.
                    expected_ns = min(limit_ns, likely_ns) if likely_ns > world.now_ns else limit_ns
                number = number_of(name)
                for rank in task.live_ranks():
                    self._limits.append(limit_ns)
                    self._ends.append(expected_ns)
                    self._slots.append(slots[task.nodes[rank]])
                    self._numbers.append(number)
                    number = -abs(number)

    def _mean_ms(self, job: Job) -> int | None:
        if not self.use_means or job.request.array is None:
            return None
        number = number_of(job.id)
        if number not in self.means_ms:
            self.means_ms[number] = mean_ms(job)
        return self.means_ms[number]

    def place(self, given: list[Given]) -> None:
        """These tasks have started."""
        held = self.world.held
        if not given or held is None:
            return
        now_ns = self.world.now_ns
        rows: list[tuple[int, int, int, int]] = []  # limit, end, slot, job
        needs: list[Ints] = []
        for one in given:
            request = one.job.request
            limit_ns = now_ns + request.time_ms * MS_NS
            mean = self._mean_ms(one.job)
            expected_ns = limit_ns if mean is None else min(limit_ns, now_ns + mean * MS_NS)
            number = number_of(one.job.id)
            row = row_of(request.needs)
            for slot in one.slots:
                rows.append((limit_ns, expected_ns, slot, number))
                needs.append(row)
                self.world.used[:, slot] += row
                number = -abs(number)
            self.world.hold(one.job.account, rate_m(request.needs) * len(one.slots))
        limits, ends, slots, numbers = np.array(rows, dtype=np.int64).T
        self.world.held = held + Leases(limits, slots, np.stack(needs, axis=1))
        self.ends_ns = np.concatenate((self.ends_ns, ends))
        self.numbers = np.concatenate((self.numbers, numbers))

    def advance(self, from_ns: int) -> bool:
        """Move on to the next ends; False when nothing runs any more."""
        held = self.world.held
        if held is None or not len(self.ends_ns):
            return False
        next_ns = int(self.ends_ns.min())
        together_ns = next_ns + (next_ns - from_ns) // 16
        over = self.ends_ns <= together_ns
        world = self.world
        world.now_ns = max(world.now_ns, int(self.ends_ns[over].max()))
        for row in np.flatnonzero(over).tolist():
            world.used[:, held.slots[row]] -= held.devices[:, row]
            self._ended(int(self.numbers[row]))
        rest = np.flatnonzero(~over)
        world.held = held.kept(rest)
        world.held.ends_ns = np.where(
            world.held.ends_ns > world.now_ns, world.held.ends_ns, world.now_ns + GRACE_MS * MS_NS
        )
        self.ends_ns, self.numbers = self.ends_ns[rest], self.numbers[rest]
        return True

    def _ended(self, number: int) -> None:
        job = self.world.job(abs(number))
        self.world.hold(job.account, -rate_m(job.request.needs))
        if number > 0:
            if self.means_ms.get(number) is None:
                self.by_limit += 1
            else:
                self.by_mean += 1
            self.world.make_room(number)


def mean_ms(job: Job) -> int | None:
    """How long the finished tasks of a job ran on average, by its newest; None where none has finished."""
    sum_ns, count = 0, 0
    for task in reversed(job.tasks.values()):
        if task.state is TaskState.DONE and task.started_ns:
            sum_ns += max(0, task.ended_ns - task.started_ns)
            count += 1
            if count >= TASKS_AVERAGED_MAX:
                break
    return max(1, sum_ns // count // MS_NS) if count else None


class Budget:
    """Passes that may still be spent."""

    def __init__(self, passes: int) -> None:
        self.passes = passes


def forecast(
    site: Site,
    queue: Queue,
    job: Job,
    now_ns: int,
    *,
    index: int | None = None,
    use_means: bool = True,
    budget: Budget | None = None,
    within_ns: int | None = None,
) -> Expected:
    """When a task of `job` is expected to start: the next one, or that of `index`.

    `job` counts as the queue's job of that id; it may be another version of it, or one that was never submitted.
    A search ends early when nothing started `within_ns`.
    """
    budget = budget or Budget(FORECAST_PASSES_MAX)
    number = number_of(job.id)
    world = World(site, queue, now_ns, swap=job)
    fit = Fit(world.table, world.used)
    if not fit.ever(fit.wanted(shape_of(job.request))):
        return Expected(Sure.NEVER)
    future: Future | None = None
    while budget.passes > 0:
        budget.passes -= 1
        given = Pass(world).run(PLACEMENTS_PER_PASS, until=number if index is None else 0)
        for one in given:
            if one.job.id == job.id and index in (None, one.index):
                return _started(world, future, one, now_ns)
        future = future or Future(world, use_means)
        future.place(given)
        if len(given) >= PLACEMENTS_PER_PASS:
            continue
        if not future.advance(now_ns):
            return Expected(Sure.UNKNOWN)
        if within_ns is not None and world.now_ns > now_ns + within_ns:
            break
    return Expected(
        Sure.NOT_BEFORE,
        world.now_ns,
        (world.now_ns - now_ns) // MS_NS,
        rests_on=_rests_on(future, given_up=budget.passes <= 0),
    )


def _started(world: World, future: Future | None, one: Given, now_ns: int) -> Expected:
    nodes = tuple(world.table.ids[slot] for slot in one.slots)
    if world.now_ns == now_ns:
        return Expected(Sure.NOW, now_ns, 0, nodes)
    return Expected(Sure.ABOUT, world.now_ns, (world.now_ns - now_ns) // MS_NS, nodes, _rests_on(future))


def _rests_on(future: Future | None, given_up: bool = False) -> tuple[str, ...]:
    if future is None:
        return ()
    said: list[str] = []
    if future.by_limit:
        said.append(f"{_tasks(future.by_limit)} running to {_their(future.by_limit)} time limit")
    if future.by_mean:
        means = sorted({ms for ms in future.means_ms.values() if ms is not None})
        span = format_time_ms(means[0]) + (f" to {format_time_ms(means[-1])}" if len(means) > 1 else "")
        said.append(f"{_tasks(future.by_mean)} taking as long as others of the same array did on average ({span})")
    if given_up:
        said.append("the look ahead ends there: too much happens before")
    return (*said, "nobody else submitting, and the nodes staying as they are")


def _tasks(count: int) -> str:
    return f"{count:,} tasks" if count != 1 else "1 task"


def _their(count: int) -> str:
    return "their" if count != 1 else "its"
