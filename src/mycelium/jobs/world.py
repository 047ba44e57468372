"""The site as a plan sees it: a view over queue and nodes that can be used up and moved on in time, changing neither.

A planning pass takes tasks from a world; a forecast takes a pass, moves the world on to the next end, and passes again.
A world may hold one job that is not (or not so) in the queue: how `why` tries a change and `--dry-run` a request.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from mycelium.accounts.model import Usage
from mycelium.base.ids import AccountId, job_id, number_of
from mycelium.jobs.leases import Leases
from mycelium.jobs.model import Job, Site
from mycelium.jobs.queue import Queue, QueueLine, Shape, shape_of
from mycelium.jobs.reserve import leases
from mycelium.jobs.share import share
from mycelium.jobs.table import Ints


def indices_waiting(job: Job) -> Iterator[int]:
    """The indices of a job that wait to be placed, in the order in which they are."""
    yield from job.again
    if job.request.array is None:
        if not job.tasks:
            yield 0
        return
    for index in job.request.array.indices[job.cursor :]:
        if index not in job.tasks:
            yield index


def siblings_before(job: Job, index: int) -> int:
    """How many waiting tasks of a job are placed before that one, which waits. Cost: a look at each task's record."""
    if index in job.again:
        return job.again.index(index)
    indices = job.request.array.indices if job.request.array else range(1)
    between = indices[job.cursor : indices.index(index)] if index in indices else range(0)
    return len(job.again) + len(between) - sum(known in between for known in job.tasks)


def last_waiting(job: Job) -> int | None:
    """The index that is placed last; None where nothing waits."""
    indices = job.request.array.indices if job.request.array else range(1)
    fresh = next((index for index in reversed(indices[job.cursor :]) if index not in job.tasks), None)
    return job.again[-1] if fresh is None and job.again else fresh


class JobPart:
    """What of one job can still be placed: `room` under its throttle now, `rest` in all."""

    __slots__ = ("indices", "job", "rest", "room")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.indices = indices_waiting(job)
        self.rest = job.waiting
        self.room = max(0, job.placeable)


class LineView:
    """A line as far as this world has used it up."""

    __slots__ = ("back", "line", "next", "part", "world")

    def __init__(self, world: World, line: QueueLine) -> None:
        self.world = world
        self.line = line
        self.next = line.start
        self.back: list[int] = []  # jobs that came back: a task of theirs ended and made room under the throttle
        self.part: JobPart | None = None

    def head(self) -> int | None:
        """The number of the oldest job with room; None when the line is used up."""
        if self.part is not None and self.part.room > 0:
            return number_of(self.part.job.id)
        self.part = None
        numbers = self.line.numbers
        if self.next < len(numbers) and numbers[self.next] == self.world.without:
            self.next += 1
        if self.back and (self.next >= len(numbers) or self.back[0] < numbers[self.next]):
            return self.back[0]
        return numbers[self.next] if self.next < len(numbers) else None

    def take(self) -> tuple[Job, int] | None:
        """The next task of the oldest job, which is now used up; None where the record has fewer than it says."""
        if self.part is None or self.part.room <= 0:
            number = self.head()
            if number is None:
                return None
            if self.back and self.back[0] == number:
                heappop(self.back)
            else:
                self.next += 1
            self.part = self.world.part(number)
        part = self.part
        part.room -= 1
        part.rest -= 1
        index = next(part.indices, None)
        return None if index is None else (part.job, index)


class World:
    """See the module. `swap` takes the place of the queue's job of that id, or stands beside the queue's jobs."""

    def __init__(
        self, site: Site, queue: Queue, now_ns: int, swap: Job | None = None, held: Leases | None = None
    ) -> None:
        self.site = site
        self.queue = queue
        self.table = queue.table
        self.now_ns = now_ns
        self.used: Ints = queue.table.used
        self.held = held  # what is taken, where it is known or no longer what the site says
        self.swap = swap
        self.without = number_of(swap.id) if swap is not None else 0
        self._usage: dict[AccountId, Usage] = {}  # where it is no longer what the site says
        self._parts: dict[int, JobPart] = {}
        self._views: dict[tuple[int, AccountId], dict[tuple[Shape, int], LineView]] = {}
        if swap is not None and swap.placeable > 0:
            self._view(swap).back.append(self.without)

    def job(self, number: int) -> Job:
        return self.swap if self.swap is not None and number == self.without else self.site.jobs.by_id[job_id(number)]

    def part(self, number: int) -> JobPart:
        part = self._parts.get(number)
        if part is None:
            part = self._parts[number] = JobPart(self.job(number))
        return part

    def classes(self) -> list[int]:
        """The priority classes in which somebody waits, highest first."""
        return sorted({*self.queue.classes, *(priority for priority, _ in self._views)}, reverse=True)

    def waiting_accounts(self, priority: int) -> list[AccountId]:
        """The accounts that wait in a class, in the order of their numbers."""
        own = (account for of, account in self._views if of == priority)
        return sorted({*self.queue.classes.get(priority, ()), *own}, key=number_of)

    def views(self, priority: int, account: AccountId) -> list[LineView]:
        """What an account has waiting in a class, a view a line."""
        views = self._views.setdefault((priority, account), {})
        for key, line in self.queue.classes.get(priority, {}).get(account, {}).items():
            if key not in views:
                views[key] = LineView(self, line)
        return list(views.values())

    def usage(self, account: AccountId) -> Usage:
        known = self._usage.get(account)
        if known is not None:
            return known
        record = self.site.accounts.by_id.get(account)
        return record.usage if record else Usage()

    def weight(self, account: AccountId) -> int:
        record = self.site.accounts.by_id.get(account)
        return record.weight if record else 1

    def share(self, account: AccountId) -> float:
        return share(self.usage(account), self.weight(account), self.now_ns)

    def hold(self, account: AccountId, rate: int) -> None:
        """The account holds that much more from now on (less, when negative)."""
        self._usage[account] = self.usage(account).changed(rate, self.now_ns)

    def leases(self) -> Leases:
        """What is taken, and until when at most."""
        return self.held if self.held is not None else leases(self.site, self.queue, self.now_ns)

    def make_room(self, number: int) -> None:
        """A task of this job ended: where a throttle kept the next one back, there is room for it."""
        job = self.job(number)
        if job.request.array is None or not job.request.array.throttle or job.cancelled:
            return
        part = self.part(number)
        if part.room >= part.rest:
            return
        part.room += 1
        view = self._view(job)
        if part.room == 1 and view.part is not part:
            heappush(view.back, number)

    def _view(self, job: Job) -> LineView:
        request = job.request
        key = (shape_of(request), request.time_ms)
        views = self._views.setdefault((int(request.priority), job.account), {})
        if key not in views:
            line = self.queue.classes.get(int(request.priority), {}).get(job.account, {}).get(key)
            views[key] = LineView(self, line or QueueLine(int(request.priority), job.account, *key))
        return views[key]
