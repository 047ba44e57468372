"""What keeps a waiting job from running now: labels, nodes that take no work, devices, others ahead, nodes kept.

Never: says that a job cannot run where it only cannot run now.
"""

from __future__ import annotations

import numpy as np

from mycelium.base.ids import JobId, NodeId, job_id, number_of
from mycelium.base.limits import AHEAD_SHOWN, GRACE_MS, HOLDERS_NAMED
from mycelium.base.units import MS_NS, format_cpus, format_size, format_time_ms
from mycelium.jobs.answer import Bind, Binding
from mycelium.jobs.model import Job, JobState, Site
from mycelium.jobs.plan import Pass
from mycelium.jobs.queue import SANDBOXED, shape_of
from mycelium.jobs.reserve import end_ns, leased_tasks
from mycelium.jobs.table import DEVICES, Flags, Ints, NodeTable, row_of
from mycelium.jobs.world import World


def blocked(site: Site, job: Job) -> Bind:
    """A job that waits for others."""
    said: list[str] = []
    for name in job.waits_for[:AHEAD_SHOWN]:
        other = site.jobs.by_id.get(name)
        if other is None:
            continue
        done = f": {other.ended:,} of {other.size:,} tasks done" if other.request.array else ""
        said.append(f"{name} ({other.state}{done})")
    more = len(job.waits_for) - AHEAD_SHOWN
    listed = ", ".join(said) + (f" and {more} more" if more > 0 else "")
    return Bind(Binding.DEPENDENCY, f"it comes after {listed}", job.waits_for)


def throttled(job: Job) -> Bind:
    most = job.request.array.throttle if job.request.array else 0
    return Bind(Binding.THROTTLE, f"its throttle lets {most:,} of its tasks run at once, and {job.leased:,} do")


def waiting(job: Job, table: NodeTable, looked: Pass | None = None) -> Bind:
    """The one thing that binds a job whose turn may come. Without a pass, others ahead are not told from nodes kept.

    Cost: some tens of microseconds on 1,000 nodes.
    """
    request, shape = job.request, shape_of(job.request)
    needs = row_of(request.needs)[:, None]
    present = table.present
    accepted = present & table.accepts(shape.terms)
    if not accepted.any():
        return _labels(table, present, shape.terms)
    able = accepted & (table.total >= needs).all(axis=0)
    if able.sum() < request.nodes:
        return _too_large(job, table, accepted, able)
    ready = able & table.open
    if ready.sum() < request.nodes:
        return _closed(job, table, able, ready)
    free = table.total - table.used
    room = ready & (free >= needs).all(axis=0)
    if room.sum() < request.nodes:
        bind = _short(job, table, ready, room, free)
        return bind if looked is None else _held_by(bind, looked.world, ready & ~room)
    if looked is None:
        return Bind(Binding.TURN, "there is room for it, and others are ahead of it")
    if looked.seen is not None and (ready & (looked.seen >= needs).all(axis=0)).sum() >= request.nodes:
        return _kept(job, looked)
    first = list(dict.fromkeys(one.job.id for one in looked.given))[:AHEAD_SHOWN]
    return Bind(Binding.TURN, f"there is room for it now, and those ahead get it: {_names(first)}", tuple(first))


def _labels(table: NodeTable, present: Flags, terms: tuple[str, ...]) -> Bind:
    if not present.any():
        return Bind(Binding.NEVER, "the site has no node")
    unmet = [term for term in terms if not (present & table.accepts((term,))).any()]
    if SANDBOXED in unmet:
        return Bind(Binding.SELECTOR, "no node can sandbox a job")
    if unmet:
        return Bind(Binding.SELECTOR, f"no node meets {_names(unmet)}")
    asked = [term for term in terms if term != SANDBOXED]
    and_box = " and can sandbox a job" if SANDBOXED in terms else ""
    return Bind(Binding.SELECTOR, f"no single node meets {_names(asked)}{and_box}")


def _too_large(job: Job, table: NodeTable, accepted: Flags, able: Flags) -> Bind:
    request = job.request
    could = int(able.sum())
    if could:
        return Bind(Binding.NEVER, f"it asks for {request.nodes} nodes at once; {could} could ever serve it")
    needs = row_of(request.needs)
    whose = " that it accepts" if request.on else ""
    for row in range(DEVICES):
        slot, most = _most(table.total[row], accepted)
        if most < needs[row]:
            text = (
                f"it asks for {_amount(row, needs[row])}; the largest node{whose} has {_amount(row, most, bare=True)}"
            )
            return Bind(Binding.NEVER, f"{text} ({table.ids[slot]})")
    return Bind(Binding.NEVER, f"no single node{whose} has {request.needs}")


def _closed(job: Job, table: NodeTable, able: Flags, ready: Flags) -> Bind:
    shut = [int(slot) for slot in np.flatnonzero(able & ~table.open)]
    said = ", ".join(f"{table.ids[slot]} is {_state(table, slot)}" for slot in shut[:AHEAD_SHOWN])
    more = f", {len(shut) - AHEAD_SHOWN} more are closed" if len(shut) > AHEAD_SHOWN else ""
    count = int(able.sum())
    of = "the only node that could serve it takes" if count == 1 else f"of {count} nodes that could serve it, "
    if count > 1:
        of += f"{int(ready.sum())} take" if ready.sum() != 1 else "1 takes"
    takes = f"{of} no new work now" if count == 1 else f"{of} new work now, and it needs {job.request.nodes}"
    return Bind(Binding.CLOSED, f"{takes}: {said}{more}")


def _state(table: NodeTable, slot: int) -> str:
    node = table.nodes[slot]
    return str(node.state) if node is not None else "unknown"


def _short(job: Job, table: NodeTable, ready: Flags, room: Flags, free: Ints) -> Bind:
    request = job.request
    needs = row_of(request.needs)
    if request.nodes > 1:
        text = f"it asks for {request.nodes} nodes at once with {request.needs} free on each; {int(room.sum())} of the "
        return Bind(Binding.GANG, f"{text}{int(ready.sum())} that could serve it have that now")
    said: list[str] = []
    for row in range(DEVICES):
        slot, most = _most(free[row], ready)
        if most < needs[row]:
            most = max(0, most)
            text = f"{_amount(row, needs[row])}; the most that a node has free is {_amount(row, most, bare=True)}"
            said.append(f"{text} of {_amount(row, int(table.total[row, slot]), bare=True)} ({table.ids[slot]})")
    if said:
        return Bind(Binding.DEVICES, "it asks for " + ", and for ".join(said))
    return Bind(Binding.DEVICES, f"no node has {request.needs} free together, though each is free somewhere")


def holders(world: World, slots: Flags) -> list[tuple[JobId, int]]:
    """The jobs that hold something on those nodes and by when each has ended at the latest, the first to end first.

    Cost: about a microsecond a running task.
    """
    ends_ns: dict[JobId, int] = {}
    queue = world.queue
    single = queue.held.leases().honest(world.now_ns, GRACE_MS * MS_NS)
    for place in np.flatnonzero(slots[single.slots]).tolist():
        ends_ns[queue.held.names[place]] = int(single.ends_ns[place])
    for name in queue.several:
        job = world.site.jobs.by_id[name]
        for task in leased_tasks(job):
            if any(slots[queue.table.slots[task.nodes[rank]]] for rank in task.live_ranks()):
                ends_ns[name] = max(ends_ns.get(name, 0), end_ns(job, task, world.now_ns))
    return sorted(((name, end) for name, end in ends_ns.items()), key=lambda one: (one[1], number_of(one[0])))


def _held_by(bind: Bind, world: World, full: Flags) -> Bind:
    """The same, with who holds those nodes."""
    held = holders(world, full)
    if not held:
        return bind
    slots = np.flatnonzero(full)
    where = f"{world.table.ids[int(slots[0])]} is" if len(slots) == 1 else f"these {len(slots):,} nodes are"
    where = "both nodes are" if len(slots) == 2 else where
    named = [_holder(world, name, until_ns) for name, until_ns in held[:HOLDERS_NAMED]]
    more = len(held) - HOLDERS_NAMED
    if more > 0:
        named.append(f"{more:,} more {'jobs' if more > 1 else 'job'}")
    said = " and ".join(filter(None, (", ".join(named[:-1]), named[-1])))
    return Bind(bind.kind, f"{bind.text}; {where} held by {said}", tuple(name for name, _ in held[:HOLDERS_NAMED]))


def _holder(world: World, name: JobId, until_ns: int) -> str:
    job = world.site.jobs.by_id[name]
    account = world.site.accounts.by_id.get(job.account)
    whose = account.name if account else job.account
    if job.request.service:
        return f"{name} ({whose}, until it is cancelled)"
    return f"{name} ({whose}, for at most {format_time_ms((until_ns - world.now_ns) // MS_NS)})"


def _kept(job: Job, looked: Pass) -> Bind:
    now_ns = looked.world.now_ns
    end_ns = now_ns + job.request.time_ms * MS_NS
    kept = [kept for kept in looked.kept if kept.reserved.start_ns < end_ns]
    if not kept:
        return Bind(Binding.TURN, "there is room for it, and others are ahead of it")
    said = ", ".join(
        f"{job_id(one.number)} (which can start in {format_time_ms((one.reserved.start_ns - now_ns) // MS_NS)})"
        for one in kept[:AHEAD_SHOWN]
    )
    text = f"the nodes with room are kept for {said}; with a time limit of {format_time_ms(job.request.time_ms)} "
    return Bind(Binding.KEPT, f"{text}it could still be running then", tuple(job_id(one.number) for one in kept))


def cannot_now(job: Job, site: Site) -> Bind | None:
    """What binds a job that the plan does not even look at."""
    if job.state is JobState.BLOCKED:
        return blocked(site, job)
    if job.placeable <= 0 and job.waiting > 0 and not job.cancelled:
        return throttled(job)
    return None


def _most(row: Ints, among: Flags) -> tuple[int, int]:
    slot = int(np.where(among, row, -1).argmax())
    return slot, int(row[slot])


def _amount(row: int, amount: int, bare: bool = False) -> str:
    amount = int(amount)
    if row == 1:
        return format_size(amount) + ("" if bare else " of memory")
    said = format_cpus(amount) if row == 0 else str(amount)
    return said if bare else f"{said} {('cpu', '', 'gpu')[row]}" + ("" if said == "1" else "s")


def _names(names: list[JobId] | list[NodeId] | list[str]) -> str:
    return ", ".join(names)
