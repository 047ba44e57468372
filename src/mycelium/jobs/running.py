"""The running tasks as a forecast needs them: when each must end, when it is likely to, and what that gives back.

A task of an array is taken to run as long as the array's finished tasks did on average; any other to its time limit.
"""

from __future__ import annotations

import numpy as np

from mycelium.base.ids import number_of
from mycelium.base.limits import GRACE_MS, TASKS_AVERAGED_MAX
from mycelium.base.units import MS_NS
from mycelium.jobs.leases import Leases, Row
from mycelium.jobs.model import Job, Site, Task, TaskState
from mycelium.jobs.queue import Queue
from mycelium.jobs.reserve import end_ns, leased_tasks
from mycelium.jobs.share import rate_m
from mycelium.jobs.table import Flags, Ints


class RunningRanks:
    """Rows, each a rank of a running task; `jobs` holds the job's number for a task's first rank, 0 for the others."""

    def __init__(self, leases: Leases, ends_ns: Ints, jobs: Ints, payers: Ints, rates_m: Ints, by_mean: Flags) -> None:
        self.leases = leases  # to the time limits
        self.ends_ns = ends_ns  # as they are likely
        self.jobs = jobs
        self.payers = payers  # the account's number
        self.rates_m = rates_m
        self.by_mean = by_mean

    @classmethod
    def of(cls, site: Site, queue: Queue, now_ns: int, means: Means) -> RunningRanks:
        """What runs now. Cost: a few microseconds a task."""
        rows = Rows()
        for name in sorted(queue.several, key=number_of):
            job = site.jobs.by_id[name]
            mean_ms = means.of(job)
            for task in leased_tasks(job):
                limit_ns = end_ns(job, task, now_ns)
                likely_ns = limit_ns if mean_ms is None else likely(task, limit_ns, mean_ms, now_ns)
                live = [queue.table.slots[task.nodes[rank]] for rank in task.live_ranks()]
                rows.add(job, live, limit_ns, likely_ns, mean_ms is not None)
        singles = queue.held.leases().honest(now_ns, GRACE_MS * MS_NS)
        for name, limit_ns, slot in zip(
            queue.held.names, singles.ends_ns.tolist(), singles.slots.tolist(), strict=True
        ):
            rows.add(site.jobs.by_id[name], [slot], limit_ns, limit_ns, False)
        return rows.running()

    def __add__(self, other: RunningRanks) -> RunningRanks:
        return RunningRanks(
            self.leases + other.leases,
            np.concatenate((self.ends_ns, other.ends_ns)),
            np.concatenate((self.jobs, other.jobs)),
            np.concatenate((self.payers, other.payers)),
            np.concatenate((self.rates_m, other.rates_m)),
            np.concatenate((self.by_mean, other.by_mean)),
        )

    def kept(self, which: Ints) -> RunningRanks:
        return RunningRanks(
            self.leases.kept(which),
            self.ends_ns[which],
            self.jobs[which],
            self.payers[which],
            self.rates_m[which],
            self.by_mean[which],
        )


class Rows:
    """Rows of `RunningRanks` while they are gathered."""

    def __init__(self) -> None:
        self._leases: list[Row] = []
        self._ends_ns: list[int] = []
        self._jobs: list[int] = []
        self._payers: list[int] = []
        self._rates_m: list[int] = []
        self._by_mean: list[bool] = []

    def add(self, job: Job, slots: list[int], limit_ns: int, likely_ns: int, by_mean: bool) -> None:
        """One task, with a row for each of its nodes."""
        needs = job.request.needs
        payer, rate = number_of(job.account), rate_m(needs)
        for rank, slot in enumerate(slots):
            self._leases.append((limit_ns, slot, needs))
            self._ends_ns.append(likely_ns)
            self._jobs.append(0 if rank else number_of(job.id))
            self._payers.append(payer)
            self._rates_m.append(rate)
            self._by_mean.append(by_mean)

    def running(self) -> RunningRanks:
        return RunningRanks(
            Leases.of(self._leases),
            np.array(self._ends_ns, np.int64),
            np.array(self._jobs, np.int64),
            np.array(self._payers, np.int64),
            np.array(self._rates_m, np.int64),
            np.array(self._by_mean, np.bool_),
        )


class Means:
    """How long the finished tasks of each array ran on average; `use` false: nothing is known of any."""

    def __init__(self, use: bool) -> None:
        self.use = use
        self.known: dict[str, int | None] = {}

    def of(self, job: Job) -> int | None:
        if not self.use or job.request.array is None:
            return None
        if job.id not in self.known:
            self.known[job.id] = mean_ms(job)
        return self.known[job.id]


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


def likely(task: Task, limit_ns: int, mean_ms: int, now_ns: int) -> int:
    """When a task ends that is like the others; one that has outlived them is taken to be half-way."""
    begun_ns = task.started_ns or task.placed_ns
    ends_ns = begun_ns + mean_ms * MS_NS
    return min(limit_ns, ends_ns if ends_ns > now_ns else now_ns + (now_ns - begun_ns))
