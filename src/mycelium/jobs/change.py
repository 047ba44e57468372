"""The smallest change of a request that would start it sooner: each tried by the same plan, on a changed copy.

Changes that start it now are sought first; where there is none, changes that start it sooner than expected. For what
can never start, the smallest change with which it can is the answer, whenever that is.
Cost: within a budget of work; to try whether a change starts it now costs one planning pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from mycelium.base.ids import number_of
from mycelium.base.limits import FORECAST_WORK_MAX, PLACEMENTS_PER_PASS
from mycelium.base.units import GIB, MIB, MINUTE_S, MS_NS, format_cpus, format_size, format_time_ms
from mycelium.jobs.answer import Change
from mycelium.jobs.forecast import Budget, Expected, Outlook, Sure, forecast
from mycelium.jobs.model import Job, Priority, Request
from mycelium.jobs.plan import Pass
from mycelium.jobs.queue import shape_of
from mycelium.jobs.table import Ints

STEPS_TRIED = 6  # of each thing that could be changed, where nothing starts it now


class Trial(Struct, frozen=True):
    """A changed request, how it is written, and how large the change is beside what was asked."""

    request: Request
    option: str
    text: str
    instead_of: str
    size: float


def smallest_change(
    outlook: Outlook, job: Job, looked: Pass, expected: Expected, highest: Priority, index: int | None = None
) -> Change | None:
    """The smallest change that helps the job (its task `index`), with the start that it gives; None: none was found."""
    budget = Budget(FORECAST_WORK_MAX)
    ladders = list(_ladders(job, looked, highest))
    best: Change | None = None
    for ladder in ladders if expected.sure is not Sure.NEVER else ():
        best = _smaller(best, _first_that_starts_now(outlook, job, index, ladder, budget))
    if best is not None:
        return best
    # Nothing starts it now: try a few steps of each ladder, the smallest changes first.
    trials = [step for ladder in ladders for step in _spread(ladder)]
    trials.sort(key=lambda trial: trial.size)
    within_ns = None if expected.in_ms is None else expected.in_ms * MS_NS
    for place, trial in enumerate(trials):
        if budget.spent:
            break
        changed = replace(job, request=trial.request)
        part = budget.part(len(trials) - place)
        found = forecast(outlook, changed, index=index, budget=part, within_ns=within_ns)
        budget.work += max(0, part.work)
        if found.sooner_than(expected):
            return _change(trial, found)
    return None


def _spread(ladder: list[Trial]) -> list[Trial]:
    """At most `STEPS_TRIED` of its steps, the mildest and the strongest among them."""
    last = len(ladder) - 1
    return [ladder[place] for place in sorted({last * step // (STEPS_TRIED - 1) for step in range(STEPS_TRIED)})]


def _smaller(one: Change | None, other: Change | None) -> Change | None:
    if one is None or other is None:
        return one or other
    return other if other.size < one.size else one


def _change(trial: Trial, expected: Expected) -> Change:
    return Change(trial.option, trial.text, trial.instead_of, round(trial.size, 4), expected)


def _first_that_starts_now(
    outlook: Outlook, job: Job, index: int | None, ladder: list[Trial], budget: Budget
) -> Change | None:
    """The mildest step of a ladder that starts now, by halving: a stronger step never fits worse."""
    low, high = 0, len(ladder) - 1
    best: Change | None = None
    while low <= high and not budget.spent:
        middle = (low + high) // 2 if best is not None else high  # the strongest first: if it fails, all fail
        found = _starts_now(outlook, replace(job, request=ladder[middle].request), index, budget)
        if found is not None:
            best = _change(ladder[middle], found)
            high = middle - 1
        elif best is None:
            return None
        else:
            low = middle + 1
    return best


def _starts_now(outlook: Outlook, job: Job, index: int | None, budget: Budget) -> Expected | None:
    world = outlook.world(job)
    given = Pass(world).run(PLACEMENTS_PER_PASS, until=number_of(job.id) if index is None else 0)
    budget.spend(world, len(given))
    mine = next((one for one in given if one.job.id == job.id and index in (None, one.index)), None)
    if mine is None:
        return None
    return Expected(Sure.NOW, outlook.now_ns, 0, tuple(world.table.ids[slot] for slot in mine.slots))


def _ladders(job: Job, looked: Pass, highest: Priority) -> Iterator[list[Trial]]:
    """For each thing that could be changed, its steps from the mildest to the strongest."""
    request = job.request
    for made in (
        _fewer_devices(job, looked, 0, _cpus),
        _fewer_devices(job, looked, 1, _memory),
        _fewer_devices(job, looked, 2, _gpus),
        _fewer_nodes(request),
        _shorter(request, looked),
        _raised_throttle(job),
        _raised_priority(request, highest),
        *([trial] for trial in _fewer_terms(request)),
    ):
        if made:
            yield made


def _fewer_devices(job: Job, looked: Pass, row: int, trial: Callable[[Request, int], Trial]) -> list[Trial]:
    """Steps at what nodes have free, and at what the largest have in all; each that is less than what was asked."""
    world, request = looked.world, job.request
    wanted = looked.fit.wanted(shape_of(request))
    asked = int(wanted.needs[row])
    floor = (100, 16 * MIB, 1)[row]  # without any gpu it would be another job
    free = looked.fit.usable[looked.fit.level(world.now_ns + request.time_ms * MS_NS)]
    amounts: set[int] = set()
    for columns in (free, world.table.total - world.used, world.table.total):
        amounts.update(_rounded(row, amount) for amount in _distinct(columns[row][wanted.mask]))
    amounts.update(_rounded(row, asked * share // 4) for share in (1, 2, 3))
    return [trial(request, amount) for amount in sorted(amounts, reverse=True) if floor <= amount < asked]


def _distinct(amounts: Ints) -> list[int]:
    return np.unique(amounts)[-64:].tolist()


def _rounded(row: int, amount: int) -> int:
    """Down to what a person would write."""
    if row == 0:
        return amount // 1000 * 1000 if amount >= 1000 else amount // 100 * 100
    if row == 1:
        return amount // GIB * GIB if amount >= 4 * GIB else amount // (64 * MIB) * (64 * MIB)
    return amount


def _cpus(request: Request, cpu_m: int) -> Trial:
    was, now = request.needs.cpu_m, format_cpus(cpu_m)
    text = f"{now} instead of {format_cpus(was)} cpus"
    needs = replace(request.needs, cpu_m=cpu_m)
    return Trial(replace(request, needs=needs), f"--cpus {now}", text, format_cpus(was), (was - cpu_m) / was)


def _memory(request: Request, memory_bytes: int) -> Trial:
    was, now = request.needs.memory_bytes, format_size(memory_bytes)
    needs = replace(request.needs, memory_bytes=memory_bytes)
    text = f"{now} instead of {format_size(was)} of memory"
    size = (was - memory_bytes) / was
    return Trial(replace(request, needs=needs), f"--memory {now}", text, format_size(was), size)


def _gpus(request: Request, gpus: int) -> Trial:
    was = request.needs.gpus
    needs = replace(request.needs, gpus=gpus)
    text = f"{gpus} instead of {was} gpus"
    return Trial(replace(request, needs=needs), f"--gpus {gpus}", text, str(was), (was - gpus) / was)


def _fewer_nodes(request: Request) -> list[Trial]:
    was = request.nodes
    steps = sorted({was - 1, was * 3 // 4, was // 2, was // 4, 2, 1, *range(max(1, was - 16), was)}, reverse=True)
    return [
        Trial(
            replace(request, nodes=nodes),
            f"--nodes {nodes}",
            f"{nodes} instead of {was} nodes",
            str(was),
            (was - nodes) / was,
        )
        for nodes in steps
        if 1 <= nodes < was
    ]


def _shorter(request: Request, looked: Pass) -> list[Trial]:
    """Time limits with which it would end before each job for which nodes are kept."""
    was = request.time_ms
    times = {(kept.reserved.start_ns - looked.world.now_ns) // MS_NS for kept in looked.kept}
    rounded = {ms // _grain(ms) * _grain(ms) for ms in times}
    return [
        Trial(
            replace(request, time_ms=ms),
            f"--time {format_time_ms(ms)}",
            f"a time limit of {format_time_ms(ms)} instead of {format_time_ms(was)}, so that it ends before "
            "those ahead can start",
            format_time_ms(was),
            (was - ms) / was,
        )
        for ms in sorted(rounded, reverse=True)
        if 0 < ms < was
    ]


def _grain(ms: int) -> int:
    """What is said of a time in two units, so that what is suggested is what was tried."""
    hour_ms = MINUTE_S * MINUTE_S * 1000
    if ms >= 24 * hour_ms:
        return hour_ms
    return MINUTE_S * 1000 if ms >= hour_ms else 1000


def _raised_throttle(job: Job) -> list[Trial]:
    array = job.request.array
    if array is None or not array.throttle or job.leased < array.throttle:
        return []
    return [
        Trial(
            replace(job.request, array=replace(array, throttle=more)),
            f"a throttle of %{more}",
            f"{more} instead of {array.throttle} tasks at once",
            str(array.throttle),
            (more - array.throttle) / array.throttle,
        )
        for more in (array.throttle + 1, array.throttle * 2)
    ]


def _raised_priority(request: Request, highest: Priority) -> list[Trial]:
    was = Priority(request.priority)
    return [
        Trial(
            replace(request, priority=priority),
            f"--priority {priority.name.lower()}",
            f"{priority.name.lower()} instead of {was.name.lower()} priority",
            was.name.lower(),
            0.5 * (priority - was),
        )
        for priority in Priority
        if was < priority <= highest
    ]


def _fewer_terms(request: Request) -> Iterator[Trial]:
    for place, term in enumerate(request.on):
        rest = (*request.on[:place], *request.on[place + 1 :])
        option = f"--on '{','.join(rest)}'" if rest else "no --on"
        size = 1 / (len(request.on) + 1)
        yield Trial(replace(request, on=rest), option, f"without {term}", ",".join(request.on), size)
