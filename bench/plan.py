"""How long a planning pass takes, and what a queued job costs in memory.

`python -m bench.plan` runs the full size: 1,000 nodes and 100,000 waiting jobs of eight accounts, 60 shapes, some of
them gangs or with selectors. The peers' figures are published ones.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from bench.alone import alone, doing
from bench.row import Row
from mycelium.accounts.model import Account, Role
from mycelium.base.ids import account_id, job_id, node_id
from mycelium.base.units import GIB, S_NS
from mycelium.head.domains import mounted
from mycelium.jobs.apply import apply
from mycelium.jobs.events import JobEnded, JobSubmitted, StepEnded, TaskEnded, TaskPlaced
from mycelium.jobs.index import Index
from mycelium.jobs.model import Ended, Job, JobState, Priority, Reason, Request, Site, TaskState
from mycelium.jobs.plan import Place, plan
from mycelium.jobs.why import reason, why
from mycelium.nodes.model import Devices, Node, NodeState

T = TypeVar("T")
NOW_NS = 1_800_000_000 * S_NS


def node(number: int, chance: random.Random) -> Node:
    cpus, gib, gpus = chance.choice([(4, 8, 0), (8, 32, 0), (16, 64, 0), (32, 128, 2), (64, 256, 8)])
    labels = {"sandbox": "process", "arch": chance.choice(["x86_64", "aarch64"]), "zone": f"z{number % 5}"}
    devices = Devices(cpus * 1000, gib * GIB, gpus)
    return Node(node_id(number), f"n{number}", devices, labels, NodeState.UP, 0, 0)


def requests(chance: random.Random) -> list[Request]:
    """Sixty shapes: most of one node, some gangs, some with a selector, some with gpus."""
    made: list[Request] = []
    for number in range(60):
        needs = Devices(chance.choice([500, 1000, 2000, 4000, 8000]), chance.randint(1, 32) * GIB, 0)
        if number % 6 == 0:
            needs = Devices(needs.cpu_m, needs.memory_bytes, chance.choice([1, 2, 4]))
        gang = chance.choice([2, 4, 16, 64]) if number % 10 == 1 else 1
        on = (chance.choice(["arch=x86_64", "arch=aarch64", "zone=z1", "zone!=z2"]),) if number % 5 == 2 else ()
        time_ms = chance.choice([600_000, 3_600_000, 14_400_000])
        priority = chance.choices(list(Priority), [2, 7, 1])[0]
        made.append(Request(("true",), f"shape-{number}", needs, time_ms, nodes=gang, on=on, priority=priority))
    return made


def site_of(nodes: int, jobs: int) -> Site:
    chance = random.Random(7)
    site = mounted().state()
    site.nodes.by_id = {node_id(n): node(n, chance) for n in range(1, nodes + 1)}
    for number in range(1, 9):
        name = account_id(number)
        site.accounts.by_id[name] = Account(name, f"a{number}", Role.USER, "", 0, weight=1 + number % 3)
    shapes = requests(chance)
    for number in range(1, jobs + 1):
        name = job_id(number)
        account = account_id(chance.randint(1, 8))
        site.jobs.by_id[name] = Job(name, account, chance.choice(shapes), JobState.QUEUED, NOW_NS)
    site.jobs.next_number = jobs + 1
    return site


def median_ms(times: int, deed: Callable[[], T]) -> tuple[float, T]:
    """The median of some runs by the time of the cpu (a pass is one thread), and what the last one gave."""
    passed_ms: list[float] = []
    while True:
        began = time.process_time()
        result = deed()
        passed_ms.append((time.process_time() - began) * 1000)
        if len(passed_ms) >= times:
            return statistics.median(passed_ms), result


def commit(site: Site, index: Index, places: list[Place], at_ns: int) -> None:
    for place in places:
        apply(site, index, TaskPlaced(place.job, place.index, 1, place.nodes), at_ns)


def end(site: Site, index: Index, place: Place) -> None:
    """A placed task ends, and its devices are free again."""
    for rank in range(len(place.nodes)):
        apply(site, index, StepEnded(place.job, place.index, 1, rank, Ended(Reason.EXIT, 0)), NOW_NS)
    apply(site, index, TaskEnded(place.job, place.index, 1, TaskState.DONE, 0), NOW_NS)
    apply(site, index, JobEnded(place.job, JobState.DONE, 0), NOW_NS)


@dataclass
class Passes:
    """What a planning pass took, by what had changed before it."""

    empty_ms: float  # everything is free
    placed: int  # by that pass
    full_ms: float  # nothing fits
    one_ms: float  # one job more
    freed_ms: float  # one task less
    refilled: int  # by that pass


def passes(site: Site, index: Index, times: int) -> Passes:
    """Fill the site, then look at it again and again."""
    doing("the pass that finds everything free")
    empty_ms, places = median_ms(min(5, times), lambda: plan(site, index.queue, NOW_NS))
    placed = len(places)
    commit(site, index, places, NOW_NS)
    doing("filling the site")
    while more := plan(site, index.queue, NOW_NS):
        commit(site, index, more, NOW_NS)
        places += more
    doing("passes over a full site")
    full_ms, _ = median_ms(times, lambda: plan(site, index.queue, NOW_NS))
    quick = Request(("true",), "quick", Devices(100, 1 << 20), 1000)
    apply(site, index, JobSubmitted(job_id(site.jobs.next_number), account_id(1), quick), NOW_NS)
    one_ms, _ = median_ms(times, lambda: plan(site, index.queue, NOW_NS))
    end(site, index, places[len(places) // 2])
    freed_ms, freed = median_ms(times, lambda: plan(site, index.queue, NOW_NS))
    return Passes(empty_ms, placed, full_ms, one_ms, freed_ms, len(freed))


def answers(site: Site, index: Index) -> list[Row]:
    """What it takes to say why a job waits."""
    doing("why jobs wait")
    waiting = [job for job in site.jobs.by_id.values() if job.placeable > 0][:: max(1, len(index.queue) // 1000)]
    reason_ms, _ = median_ms(1, lambda: [reason(site, index.queue, job, NOW_NS) for job in waiting])
    why_ms = [median_ms(1, partial(why, site, index.queue, job.id, None, NOW_NS))[0] for job in waiting[::100]]
    return [
        Row("the reason why a job waits, in a list", reason_ms * 1000 / len(waiting), "us"),
        Row("`myc why`, the whole answer", statistics.median(why_ms), "ms", note=f"worst {max(why_ms):.0f} ms"),
    ]


def held_bytes(site: Site) -> float:
    """What the queue takes in memory for each waiting job, beside the job itself."""
    doing("memory")
    tracemalloc.start()
    held = Index.of(site)
    taken = tracemalloc.get_traced_memory()[0] / len(held.queue)
    tracemalloc.stop()
    return taken


def run(small: bool = False) -> list[Row]:
    """All figures. Small: a site of 50 nodes."""
    nodes, jobs = (50, 2_000) if small else (1_000, 100_000)
    doing(f"making {nodes:,} nodes and {jobs:,} jobs")
    site = site_of(nodes, jobs)
    gc.collect()
    gc.disable()
    load_ms, index = median_ms(1 if small else 3, lambda: Index.of(site))
    took = passes(site, index, 1 if small else 20)
    told = answers(site, index)
    gc.enable()
    return [
        Row(
            f"pass over {nodes:,} empty nodes, {jobs:,} jobs waiting",
            took.empty_ms,
            "ms",
            300,
            "less",
            note=f"places {took.placed:,}; time of one cpu, here and below",
        ),
        Row(
            "placements of that pass",
            took.placed / took.empty_ms * 1000,
            "/s",
            peers="published: Nomad 3,750/s (C1M) and 1,500/s (C2M), Kueue 42/s; theirs are committed, ours planned",
            bound="about a million/s: a look at three numbers of each node, 24 KB",
        ),
        Row("pass over full nodes, nothing fits", took.full_ms, "ms", 300, "less"),
        Row("pass after one job was submitted", took.one_ms, "ms", 5, "less"),
        Row("pass after one task ended", took.freed_ms, "ms", 5, "less", note=f"places {took.refilled}"),
        Row("making the queue anew, at a restart", load_ms, "ms"),
        *told,
        Row("memory of the queue for each waiting job", held_bytes(site), "bytes"),
    ]


if __name__ == "__main__":
    alone("the plan", run)
