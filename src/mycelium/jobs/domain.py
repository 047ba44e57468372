"""Jobs as a domain: what the head knows of them by."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, get_args

from msgspec import Struct

from mycelium.accounts.rules import find as find_account
from mycelium.base.domain import Archived, Asked, Decided, Document, Domain, Due, EventKind, Needs, Rule, View
from mycelium.base.errors import Denied, Problem, Refused
from mycelium.base.ids import AccountId, JobId, NodeId, number_of
from mycelium.base.limits import INPUT_TREES_MAX, RETAIN_ENDED_MAX, RETAIN_ENDED_S
from mycelium.base.subject import ADMIN, ANY_USER, OPERATOR, OWN, THE_SITE, USER, Guard, Subject, owned
from mycelium.base.units import S_NS
from mycelium.jobs import admit, rules
from mycelium.jobs import apply as changes
from mycelium.jobs.commands import Cancel, StopAll, Submit
from mycelium.jobs.events import JobArchived, JobEvent
from mycelium.jobs.index import Index
from mycelium.jobs.model import FIRST_STATES, Cause, Jobs, Sandbox
from mycelium.jobs.plan import plan
from mycelium.jobs.story import SENTENCES
from mycelium.nodes.events import NodeDraining, NodeEvent, NodeLost

REPLAN_NS = 2 * S_NS  # waiting jobs are looked at again even when nothing happened: their planned starts move with time
ARCHIVE_PER_TURN = 200


class Retention(Struct, frozen=True):
    """How long ended jobs stay in memory before they leave for the archive, and how many at most."""

    ns: int = RETAIN_ENDED_S * S_NS
    count_max: int = RETAIN_ENDED_MAX


class Planned:
    """When the queue was planned last."""

    def __init__(self, retention: Retention) -> None:
        self.retention = retention
        self.at_ns = 0


def index_of(view: View) -> Index:
    return view.derived["jobs"]


# What is asked.


def _submit(view: View, asked: Asked, now_ns: int) -> Decided:
    command: Submit = asked.command
    account = find_account(view.state.accounts, command.account)
    happens, jobs = admit.decide_submit(view.state, index_of(view), account, command.requests, command.key)
    if happens:  # none: it was accepted before
        for request in command.requests:
            _check_inputs(view, request.inputs)
    return happens, jobs


def _check_inputs(view: View, inputs: Sequence[JobId]) -> None:
    sources = [rules.find(view.state, name) for name in inputs]
    trees = sum(source.size * source.request.nodes for source in sources)
    if trees > INPUT_TREES_MAX:
        raise Refused(f"inputs are the outputs of {trees} tasks; at most {INPUT_TREES_MAX} are allowed")


def _cancel(view: View, asked: Asked, now_ns: int) -> Decided:
    command: Cancel = asked.command
    by = asked.subject.name
    return rules.decide_cancel(view.state, index_of(view), command.job, command.index, by), None


def _stop_all(view: View, asked: Asked, now_ns: int) -> Decided:
    return _all_stopping(view, asked.command), None


def _all_stopping(view: View, command: StopAll) -> Iterable[JobEvent]:
    for node in view.state.nodes.by_id:
        for job, task in index_of(view).leased_on(view.state, node):
            yield from rules.decide_stop(job, task, Cause.SITE_DOWN, command.by)


def _may_submit(subject: Subject, view: View, command: Submit) -> Problem | None:
    """What a job takes in must be its account's own; and what is kept apart from nothing is an admin's to run."""
    for request in command.requests:
        if request.sandbox is Sandbox.NONE and not subject.has(ADMIN, OWN):
            return Denied("only an admin may run a job without a sandbox", hint="leave out `--sandbox none`")
        for source in request.inputs:
            job = view.state.jobs.by_id.get(source)
            if job is not None and job.account != subject.account and not subject.has(OPERATOR, ADMIN, OWN):
                return Denied(f"{source} belongs to another account", hint="only its account may take it in")
    return None


def owner(view: View, name: JobId) -> AccountId | None:
    job = view.state.jobs.by_id.get(name)
    return job.account if job is not None else None


def _owner_of_named(view: View, command: Any) -> AccountId | None:
    return owner(view, command.job)


# What follows.


def _node_changed(view: View, event: NodeEvent, at_ns: int) -> None:
    node = view.state.nodes.by_id.get(event.node)
    if node is not None:  # else it left long ago, and was closed then
        index_of(view).node_changed(node)


def _node_event(view: View, event: Any, now_ns: int) -> Iterable[JobEvent]:
    """What a node's event means for the tasks that hold it. Each is read when its turn comes."""
    index = index_of(view)
    for job, task in index.leased_on(view.state, event.node):
        yield from rules.decide_node_event(view.state, index, event, job, task)


def _plan(view: View, due: Due) -> Iterable[JobEvent]:
    known: Planned = view.memory["jobs"]
    index = index_of(view)
    if not due.closing and (due.happened or due.now_ns - known.at_ns >= REPLAN_NS):
        known.at_ns = due.now_ns
        for place in plan(view.state, index.queue, due.now_ns):
            yield from rules.decide_place(view.state, index, place)
    keep = known.retention
    for name in list(rules.due_for_archive(view.state, index, due.now_ns, keep.ns, keep.count_max, ARCHIVE_PER_TURN)):
        yield JobArchived(name)


def _memory(state: Any, chosen: Retention, now_ns: int) -> Planned:
    return Planned(chosen)


def _holds(view: View) -> Collection[NodeId]:
    return index_of(view).leases.keys()


def _archives(view: View, event: Any) -> Archived | None:
    if not isinstance(event, JobArchived):
        return None
    job = view.state.jobs.by_id[event.job]
    return Archived(job.id, number_of(job.id), job.account, job)


def _needs(state: Any) -> Needs:
    """The working directories, outputs and logs of the jobs in memory. The archive keeps what happened, not what was
    written."""
    needs = Needs(set(), set())
    for job in state.jobs.by_id.values():
        if job.request.workdir is not None:
            needs.trees.add(job.request.workdir)
        for end in (end for task in job.tasks.values() for end in task.ends if end is not None):
            needs.trees.update(digest for digest in (end.outputs,) if digest)
            needs.plain.update(digest for digest in (end.stdout, end.stderr) if digest)
    return needs


def _apply(view: View, event: Any, at_ns: int) -> None:
    changes.apply(view.state, view.derived["jobs"], event, at_ns)


def _lift_first(tables: Document) -> Document:
    """What 0.1 wrote: it had another word for a job that waits for others."""
    for job in tables["by_id"].values():
        job["state"] = FIRST_STATES.get(job["state"], job["state"])
    return tables


MINE = owned(_owner_of_named, OWN)
OF_JOB = owned(lambda view, job: job.account)

DOMAIN = Domain(
    name="jobs",
    tables=Jobs,
    kinds=tuple(EventKind(kind, _apply, says, ("job",)) for kind, says in SENTENCES.items()),
    commands={
        Submit: Rule(_submit, Guard("a user", (USER, OWN), more=_may_submit), adds=True),
        Cancel: Rule(_cancel, MINE),
        StopAll: Rule(_stop_all, THE_SITE, closes=True),
    },
    index=Index.of,
    follows=dict.fromkeys(get_args(NodeEvent), _node_changed),
    memory=_memory,
    chooses=Retention,
    reacts={NodeLost: _node_event, NodeDraining: _node_event},
    plan=_plan,
    holds=_holds,
    archives=_archives,
    needs=_needs,
    looks={
        "jobs": ANY_USER,
        "why a job waits": ANY_USER,
        "what would happen to a job": Guard("a user", (USER,), more=_may_submit),
        "what a job runs and in which environment": OF_JOB,
        "a job's story": OF_JOB,
        "a job's outputs": OF_JOB,
        "a job's logs": OF_JOB,
    },
    lifts={"12c8dccb5e187a2b": _lift_first},
)
