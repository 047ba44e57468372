"""What must be true when faults have ended and all work has had its time."""

from __future__ import annotations

from typing import Protocol

from mycelium.base.ids import NodeId
from mycelium.head.core import Core
from mycelium.head.replay import replay, restore
from mycelium.jobs.domain import index_of
from mycelium.jobs.index import Index
from mycelium.log import MemoryLog
from mycelium.nodes.model import NodeState
from mycelium.sim.askers import Askers
from mycelium.sim.head import SimHead
from mycelium.sim.machine import Machine
from mycelium.sim.people import People
from mycelium.sim.promises import CAPACITY, LOST, REPLAY, TWICE, Promises, difference
from mycelium.sim.trace import Violation

STUCK = "every job that can run does"
BALANCE = "usage accounts balance"
CHAIN = "the chain of the log is whole"
STRAY = "nothing runs that nobody asked for"


class Over(Protocol):
    """A simulation whose time has run out, as far as it is judged."""

    log: MemoryLog
    promises: Promises
    head: SimHead
    machines: dict[NodeId, Machine]
    people: People
    askers: Askers


def check(sim: Over) -> None:
    core = sim.head.core
    if core is None:
        raise Violation(STUCK, "the head is not there")
    _accepted(sim, core)
    _ended(sim, core)
    _served(sim, core)
    _machines(sim, core)
    _accounts(core)
    _replay(sim, core)


def _accepted(sim: Over, core: Core) -> None:
    """What was answered exists once, and what was refused does not."""
    written = sim.promises.by_key
    for key, jobs in sim.people.answered.items():
        if list(jobs) != written.get(key):
            raise Violation(LOST, f"{key} was answered {jobs}; the log has {written.get(key)}", tuple(jobs))
        for job in jobs:
            if job not in core.site.jobs.by_id and sim.log.archived(job) is None:
                raise Violation(LOST, f"{job} is neither alive nor archived", (job,))
    for key in written.keys() & sim.people.refused.keys():
        raise Violation(TWICE, f"{key} was refused ({sim.people.refused[key]}) and written: {written[key]}")


def _ended(sim: Over, core: Core) -> None:
    stuck = [job for job, book in sim.promises.jobs.items() if book.ended is None]
    if stuck:
        job = core.site.jobs.by_id[stuck[0]]
        about = [f"{task.state}: {task.nodes} attempt {task.attempt}" for task in job.tasks.values()][:5]
        nodes = {str(node.id): str(node.state) for node in core.site.nodes.by_id.values()}
        what = f"{len(stuck)} have not ended: {job.id} is {job.state}, {job.request}, tasks {about}; nodes {nodes}"
        raise Violation(STUCK, what, (job.id,))
    if sim.people.waiting:
        raise Violation(STUCK, f"{sim.people.waiting} submits have no answer")


def _served(sim: Over, core: Core) -> None:
    """Nobody asks any more and nothing is to be served: no replica is left."""
    inference = core.site.inference
    if not sim.askers.over or inference.deployments or inference.replicas:
        what = (
            f"{inference.deployments} and {list(inference.replicas)} are left; askers: {sim.askers.answered} answered"
        )
        raise Violation(STUCK, what, tuple(inference.replicas))


def _machines(sim: Over, core: Core) -> None:
    for machine in sim.machines.values():
        state = core.site.nodes.by_id[machine.node].state
        if state is not NodeState.UP:
            raise Violation(STUCK, f"{machine.node} is {state}, and nothing is wrong with it", (machine.node,))
        if machine.disk:
            held = next(iter(machine.disk.values()))
            what = f"{machine.node} still has {list(machine.disk)}: {held.phase}, {held.ended}"
            raise Violation(STRAY, what, (machine.node, *machine.disk))
    leases = index_of(core.view).leases
    if leases:
        raise Violation(CAPACITY, f"leases are left: {leases}")


def _accounts(core: Core) -> None:
    for account in core.site.accounts.by_id.values():
        if account.usage.rate_m:
            raise Violation(BALANCE, f"{account.name} holds {account.usage.rate_m} milli-cpus, and nothing runs")


def _replay(sim: Over, core: Core) -> None:
    verdict = sim.log.verify()
    if not verdict.ok:
        raise Violation(CHAIN, verdict.why)
    living = core.codec.encode_state(core.site)
    full = replay(sim.log.read(0))
    if core.codec.encode_state(full) != living:
        raise Violation(REPLAY, difference(core.codec.encode_state(full), living))
    tail, _ = restore(sim.log)
    if core.codec.encode_state(tail) != living:
        raise Violation(REPLAY, "from the snapshot on: " + difference(core.codec.encode_state(tail), living))
    kept, anew = index_of(core.view), Index.of(full)
    for name in ("leases", "waiters", "takers", "queue"):
        if getattr(kept, name) != getattr(anew, name):
            raise Violation(REPLAY, f"the index's {name}: kept {getattr(kept, name)}, anew {getattr(anew, name)}")
