"""The head without its clock, sockets and threads: decide, commit, apply, plan, and the orders that follow.

`Core.turn` takes a batch of commands and the time, and answers with what to tell each caller and each node. The loop
(loop.py) gives it real ones; the simulator gives it pretended ones: both run this very code.

The log is the truth, memory is not: the events of a turn are applied as they are decided, so that later commands of the
batch see them, and nobody is answered before the one transaction that holds them all is durable. When that fails, the
turn raises, and the process must end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from mycelium.accounts import rules as account_rules
from mycelium.accounts.model import Account
from mycelium.accounts.rules import AddAccount, ReplaceToken
from mycelium.base.errors import Problem, Refused, Unavailable
from mycelium.base.ids import JobId, NodeId, StepId, number_of, split_step
from mycelium.base.limits import (
    GRACE_MS,
    INPUT_TREES_MAX,
    ORDER_RESEND_MS,
    ORDERS_REMEMBERED_MAX,
    RETAIN_ENDED_MAX,
    RETAIN_ENDED_S,
    SNAPSHOT_EVENTS,
)
from mycelium.base.units import MS_NS, S_NS
from mycelium.engine.orders import Beat, Exited, Forget, Hello, Order, Running, Shutdown, Start, Started, Stop
from mycelium.engine.seam import NodeDown, NodeUp
from mycelium.head import codec
from mycelium.head.commands import Cancel, Command, StopAll, Submit, Tick
from mycelium.head.replicas import Replicas
from mycelium.head.state import State, whole
from mycelium.head.steps import build_step, step_name
from mycelium.inference import rules as inference_rules
from mycelium.inference.apply import apply as apply_to_inference
from mycelium.inference.commands import InferenceCommand, Report
from mycelium.inference.events import InferenceEvent
from mycelium.inference.plan import Load, Pace
from mycelium.jobs import rules as job_rules
from mycelium.jobs.apply import apply as apply_to_jobs
from mycelium.jobs.events import JobArchived, JobEvent, StepEnded, TaskPlaced, TaskStopping
from mycelium.jobs.index import Index
from mycelium.jobs.model import Cause, Ended, Job, Site, Task, TaskState
from mycelium.jobs.plan import plan as plan_jobs
from mycelium.log import ArchivedJob, Entry, Log, Snapshot
from mycelium.nodes import rules as node_rules
from mycelium.nodes.events import NodeEvent, NodeForgotten, NodeLeft
from mycelium.nodes.plan import Heard, Patience
from mycelium.nodes.plan import plan as plan_nodes
from mycelium.nodes.rules import Approve, Ask, Drain, Join, Remove, Return

STALL_NS = 2 * S_NS  # a longer pause between two turns is the head's own, and no node pays for it
LOOK_NS = S_NS // 20  # between two looks at all nodes for one that has fallen silent: it costs a microsecond each
REPLAN_NS = 2 * S_NS  # waiting jobs are looked at again even when nothing happened: their reservations move with time
ARCHIVE_PER_TURN = 200
OVERTIME_NS = 60 * S_NS  # beyond a limit that the node should have kept: the head stops it then
BEATS_MISSED = 2  # beats that must lack a step that ran before it is taken for lost


class Answer(Struct, frozen=True):
    """What to tell the caller of one command: a value, or the problem."""

    value: Any = None
    problem: Problem | None = None


class Turn(Struct):
    """What one turn led to."""

    answers: list[Answer] = field(default_factory=list)
    orders: list[tuple[NodeId, Order]] = field(default_factory=list)
    events: list[codec.Event] = field(default_factory=list)
    last_seq: int = 0


class Settings(Struct, frozen=True):
    """What a site's owner may choose of the head's behaviour."""

    patience: Patience = Patience()
    retain_ns: int = RETAIN_ENDED_S * S_NS
    retain_max: int = RETAIN_ENDED_MAX
    snapshot_events: int = SNAPSHOT_EVENTS
    grace_ms: int = GRACE_MS
    pace: Pace = Pace()


class Core:
    """The state of a site and the only code that changes it."""

    def __init__(self, log: Log, now_ns: int, settings: Settings | None = None) -> None:
        self.log = log
        self.settings = settings or Settings()
        self.site, self._snapshot_seq = restore(log)
        self.index = Index.of(self.site)
        self.refusing = ""  # why nothing new is accepted (a full disk); set from outside
        self._heard = {node: Heard(last_ns=now_ns) for node in self.site.nodes.by_id}
        self._greeted: set[NodeId] = set()  # nodes that said hello, and were not taken out since
        self._beats: dict[NodeId, tuple[str, int]] = {}
        self._seen_ns: dict[StepId, int] = {}  # when this head first heard that a step runs
        self._missed: dict[StepId, int] = {}  # beats that lacked a step that was seen
        self._sent_ns: dict[StepId, int] = {}  # when an order about a step was sent last
        self._replicas = Replicas(self.settings.pace)
        self._turn: Turn = Turn()
        self._now_ns = now_ns
        self._looked_ns = 0
        self._planned_ns = 0
        self._going_down = False

    # The turn.

    def turn(self, commands: Sequence[Command], now_ns: int) -> Turn:
        """Decide all commands in order, see what is due, commit once, and say what follows.

        Errors: `Unavailable` when the log cannot be written: nothing of the turn has happened, and memory is void.
        """
        turn = self._turn = Turn()
        self._forgive_own_stall(now_ns)
        self._now_ns = now_ns
        for command in commands:
            turn.answers.append(self._answer(command))
        self._plan(now_ns)
        archived = self._archive(now_ns)
        if turn.events:
            encoded = [codec.encode(event) for event in turn.events]
            about = [getattr(event, "job", "") or getattr(event, "batch", "") for event in turn.events]
            turn.last_seq = self.log.append(now_ns, encoded, archived, about)
            self._act(turn)
        return turn

    def snapshot_due(self) -> bool:
        return self.log.last_seq - self._snapshot_seq >= self.settings.snapshot_events

    def take_snapshot(self) -> Snapshot:
        """The state as it is now, to be kept beside the log: the next start replays only what came after."""
        self._snapshot_seq = self.log.last_seq
        return Snapshot(self.log.last_seq, codec.SNAPSHOT_VERSION, codec.encode_site(self.site))

    def account(self, account: str) -> Account:
        return account_rules.find(self.site.accounts, account)

    def heard(self, node: NodeId) -> Heard | None:
        return self._heard.get(node)

    def inference_load(self, now_ns: int) -> Load:
        """What gateways see of deployments and replicas."""
        return self._replicas.load(now_ns)

    # Deciding: one method a command.

    def _answer(self, command: Command) -> Answer:
        try:
            return Answer(DECIDE[type(command)](self, command))
        except Problem as problem:
            return Answer(problem=problem)

    def _emit(self, events: Sequence[codec.Event]) -> None:
        for event in events:
            apply(self.site, self.index, event, self._now_ns)
            self._turn.events.append(event)

    def _submit(self, command: Submit) -> tuple[str, ...]:
        if self._going_down:
            raise Unavailable("the site is going down", hint="submit again when it is up")
        if self.refusing:
            raise Unavailable(self.refusing, hint="free some space; what was accepted before is safe")
        account = self.account(command.account)
        events, jobs = job_rules.decide_submit(self.site, self.index, account, command.requests, command.key)
        if events:  # none: it was accepted before
            for request in command.requests:
                self._check_inputs(account, request.inputs)
        self._emit(events)
        return jobs

    def _check_inputs(self, account: Account, inputs: Sequence[JobId]) -> None:
        sources = [job_rules.find(self.site, name, account) for name in inputs]
        trees = sum(source.size * source.request.nodes for source in sources)
        if trees > INPUT_TREES_MAX:
            raise Refused(f"inputs are the outputs of {trees} tasks; at most {INPUT_TREES_MAX} are allowed")

    def _cancel(self, command: Cancel) -> None:
        account = self.account(command.account)
        self._emit(job_rules.decide_cancel(self.site, self.index, command.job, command.index, account))

    def _stop_all(self, command: StopAll) -> None:
        self._going_down = True
        for node in self.site.nodes.by_id:
            for job, task in self.index.leased_on(self.site, node):
                self._emit(job_rules.decide_stop(job, task, Cause.SITE_DOWN, command.by))

    def _tick(self, command: Tick) -> None:
        """Nothing of its own: every turn looks at what is due."""

    def _node_command(self, command: Approve | Drain | Return | Remove) -> NodeId:
        node = node_rules.find(self.site.nodes, command.node)
        self._node_events(node_rules.decide(command, self.site.nodes))
        return node.id

    def _ask_to_join(self, command: Ask) -> NodeId:
        self._node_events(node_rules.decide(command, self.site.nodes))
        node = node_rules.of_machine(self.site.nodes, command.machine)
        assert node is not None
        if node.waiting:
            self._heard[node.id] = Heard(self._now_ns)  # it asks again and again: when it stops, it is declined
        return node.id

    def _account_command(self, command: AddAccount | ReplaceToken) -> str:
        self._emit(account_rules.decide(command, self.site.accounts))
        return account_rules.find(self.site.accounts, command.name).id

    def _inference_command(self, command: InferenceCommand) -> Any:
        events, answer = inference_rules.decide(command, self.site, self.site.inference, self._now_ns)
        self._emit(events)
        if isinstance(command, Report):
            self._replicas.heard(command, self._now_ns)
            return self._replicas.others(command, self._now_ns)
        return answer

    def _node_up(self, command: NodeUp) -> None:
        self._hello(command.hello)

    def _hello(self, hello: Hello) -> None:
        join = Join(hello.node, hello.name, hello.devices, hello.labels, hello.address, hello.ports)
        self._node_events(node_rules.decide(join, self.site.nodes))
        self._beats[hello.node] = (hello.boot, 0)
        self._greeted.add(hello.node)
        self._heard[hello.node] = Heard(self._now_ns, spoke=True)

    def _node_down(self, command: NodeDown) -> None:
        known = self._heard.get(command.node)
        if known is not None:
            self._heard[command.node] = replace(known, gone=command.why or "not reachable", dead=command.dead)

    def _beat(self, beat: Beat) -> None:
        if beat.node not in self._greeted:
            return  # it has not said hello to this head yet and will, or it was taken out
        boot, number = self._beats[beat.node]
        if boot != beat.boot or beat.number <= number:
            return  # an old message that was repeated or overtaken
        self._beats[beat.node] = (boot, beat.number)
        for gone in beat.gone:
            self._step_ended(beat.node, gone.step, gone.ended)
        strays = [running for running in beat.running if not self._hears_running(beat.node, running)]
        self._heard[beat.node] = Heard(self._now_ns, spoke=True, clean=not strays)
        self._miss(beat)

    def _hears_running(self, node: NodeId, running: Running) -> bool:
        """Whether a step that a node runs is one that it should run; a stray is told to stop."""
        found = self._current(node, running.step)
        if found is None:
            self._order(node, running.step, Stop(running.step, self.settings.grace_ms))
            return False
        job, task, rank = found
        self._missed.pop(running.step, None)
        if running.started_ns:
            self._runs(job, task, rank, running)
        if task.state is TaskState.STOPPING:
            self._order(node, running.step, Stop(running.step, self.settings.grace_ms))
        return True

    def _runs(self, job: Job, task: Task, rank: int, running: Running | Started) -> None:
        """A step of the current attempt runs. Its time is measured by this head's clock since it first heard of it:
        the node's clock may be another, and this one may have been set since the step began."""
        seen_ns = self._seen_ns.setdefault(running.step, self._now_ns)
        self._emit(job_rules.decide_started(job, task, rank, running.started_ns))
        if not job.request.service and self._now_ns - seen_ns > job.request.time_ms * MS_NS + OVERTIME_NS:
            task = self.site.jobs.by_id[job.id].tasks[task.index]
            self._emit(job_rules.decide_stop(job, task, Cause.TIME, "site"))

    def _miss(self, beat: Beat) -> None:
        """What a node should have and does not name: it is ordered again, or the node is asked to say that it is lost.

        Only the node's own word ends a step: a beat may have been made before the order came, and arrive after it.
        """
        named = {running.step for running in beat.running} | {gone.step for gone in beat.gone}
        for job, task in self.index.leased_on(self.site, beat.node):
            for rank in task.live_ranks():
                step = step_name(job, task, rank)
                if task.nodes[rank] != beat.node or step in named:
                    continue
                if task.state is TaskState.STOPPING:
                    self._order(beat.node, step, Stop(step, self.settings.grace_ms))
                elif step not in self._seen_ns and not (task.started_ns and len(task.nodes) == 1):
                    self._order(beat.node, step, self._start(job, task, rank))
                else:
                    self._missed[step] = self._missed.get(step, 0) + 1
                    if self._missed[step] >= BEATS_MISSED and job_rules.spare(job, rank):
                        self._order(beat.node, step, Stop(step, self.settings.grace_ms))
                    elif self._missed[step] >= BEATS_MISSED:
                        self._emit(job_rules.decide_stop(job, task, Cause.STEP_LOST, "site"))

    def _started(self, report: Started) -> None:
        found = self._current(report.node, report.step)
        if found is not None:
            self._runs(*found, report)

    def _exited(self, report: Exited) -> None:
        self._step_ended(report.node, report.step, report.ended)

    def _step_ended(self, node: NodeId, step: StepId, ended: Ended) -> None:
        self._turn.orders.append((node, Forget(step)))  # sent when the end is durable
        found = self._current(node, step)
        if found is None:  # an older attempt, or a repetition: committed elsewhere or void
            self._sent_ns.pop(step, None)
            return
        job, task, rank = found
        self._emit(job_rules.decide_ended(self.site, self.index, job, task, [rank], ended))

    def _current(self, node: NodeId, step: StepId) -> tuple[Job, Task, int] | None:
        """The fence: the task whose current attempt has this very step alive on this very node."""
        try:
            job, index, attempt, rank = split_step(step)
        except Refused:
            return None
        found = job_rules.current(self.site, job, index, attempt, rank)
        if found is None or found[1].nodes[rank] != node:
            return None
        return (*found, rank)

    # Planning.

    def _plan(self, now_ns: int) -> None:
        if now_ns - self._looked_ns >= LOOK_NS:
            self._looked_ns = now_ns
            if len(self._sent_ns) > ORDERS_REMEMBERED_MAX:  # a node may name any number of steps that nobody knows
                self._sent_ns = {
                    step: sent_ns
                    for step, sent_ns in self._sent_ns.items()
                    if now_ns - sent_ns < ORDER_RESEND_MS * MS_NS
                }
            busy = self.index.leases.keys()
            self._node_events(plan_nodes(self.site.nodes, self._heard, busy, now_ns, self.settings.patience))
            if not self._going_down and self.site.inference.deployments:
                for events in self._replicas.due(self.site, self.index, now_ns):
                    self._emit(events)
        if self._going_down or not (self._turn.events or now_ns - self._planned_ns >= REPLAN_NS):
            return
        self._planned_ns = now_ns
        for place in plan_jobs(self.site, self.index.queue, now_ns):
            self._emit(job_rules.decide_place(self.site, self.index, place))

    def _node_events(self, events: Sequence[NodeEvent]) -> None:
        for event in events:
            self._emit([event])
            if isinstance(event, NodeForgotten):
                self._heard.pop(event.node, None)
                self._beats.pop(event.node, None)
                continue
            if isinstance(event, NodeLeft):
                self._greeted.discard(event.node)  # it is back when it says hello again, not because it still beats
                if self.site.nodes.by_id[event.node].machine:  # an agent of our own would be started again
                    self._turn.orders.append((event.node, Shutdown(stop_steps=True, grace_ms=self.settings.grace_ms)))
            for job, task in self.index.leased_on(self.site, event.node):
                self._emit(job_rules.decide_node_event(self.site, self.index, event, job, task))

    def _forgive_own_stall(self, now_ns: int) -> None:
        stall_ns = now_ns - self._now_ns
        if stall_ns > STALL_NS:
            for node, heard in self._heard.items():
                self._heard[node] = replace(heard, last_ns=heard.last_ns + stall_ns)

    def _archive(self, now_ns: int) -> list[ArchivedJob]:
        rows: list[ArchivedJob] = []
        settings = self.settings
        due = job_rules.due_for_archive(
            self.site, self.index, now_ns, settings.retain_ns, settings.retain_max, ARCHIVE_PER_TURN
        )
        for name in list(due):
            job = self.site.jobs.by_id[name]
            rows.append(ArchivedJob(job.id, number_of(job.id), job.account, codec.encode_job(job)))
            self._emit([JobArchived(name)])
        return rows

    # Acting.

    def _act(self, turn: Turn) -> None:
        """The orders that the committed events call for. Lost ones are made good by the next beat."""
        for event in turn.events:
            if isinstance(event, TaskPlaced | TaskStopping):
                self._act_on(event)
            elif isinstance(event, StepEnded):
                self._unsee(event)

    def _unsee(self, event: StepEnded) -> None:
        job = self.site.jobs.by_id.get(event.job)
        if job is not None:
            step = job.step_name(event.index, event.attempt, event.rank)
            self._seen_ns.pop(step, None)
            self._missed.pop(step, None)
            self._sent_ns.pop(step, None)

    def _act_on(self, event: TaskPlaced | TaskStopping) -> None:
        job = self.site.jobs.by_id.get(event.job)
        task = job.tasks.get(event.index) if job else None
        if job is None or task is None or task.attempt != event.attempt:
            return
        for rank in task.live_ranks():
            step = step_name(job, task, rank)
            order = (
                self._start(job, task, rank) if isinstance(event, TaskPlaced) else Stop(step, self.settings.grace_ms)
            )
            self._sent_ns.pop(step, None)
            self._order(task.nodes[rank], step, order)

    def _start(self, job: Job, task: Task, rank: int) -> Start:
        return Start(build_step(self.site, job, task, rank))

    def _order(self, node: NodeId, step: StepId, order: Order) -> None:
        """Send an order about a step, unless one was sent a moment ago."""
        sent_ns = self._sent_ns.get(step)
        if sent_ns is not None and self._now_ns - sent_ns < ORDER_RESEND_MS * MS_NS:
            return
        self._sent_ns[step] = self._now_ns
        self._turn.orders.append((node, order))


DECIDE: dict[type, Callable[[Core, Any], Any]] = {
    **dict.fromkeys(inference_rules.DECIDE, Core._inference_command),
    Submit: Core._submit,
    Cancel: Core._cancel,
    StopAll: Core._stop_all,
    Tick: Core._tick,
    Ask: Core._ask_to_join,
    Approve: Core._node_command,
    Drain: Core._node_command,
    Return: Core._node_command,
    Remove: Core._node_command,
    AddAccount: Core._account_command,
    ReplaceToken: Core._account_command,
    NodeUp: Core._node_up,
    NodeDown: Core._node_down,
    Hello: Core._hello,
    Beat: Core._beat,
    Started: Core._started,
    Exited: Core._exited,
}


def apply(site: State, index: Index, event: codec.Event, at_ns: int) -> None:
    """Change the site by one event of any domain."""
    if isinstance(event, NodeEvent):
        node_rules.apply(site.nodes, event, at_ns)
        if not isinstance(event, NodeForgotten):
            index.node_changed(site.nodes.by_id[event.node])
    elif isinstance(event, JobEvent):
        apply_to_jobs(site, index, event, at_ns)
    elif isinstance(event, InferenceEvent):
        apply_to_inference(site.inference, event, at_ns)
    else:
        account_rules.apply(site.accounts, event, at_ns)


def restore(log: Log) -> tuple[State, int]:
    """The newest snapshot and the events after it. Errors: `Refused` when the log was written by a newer Mycelium."""
    snapshot = log.snapshot()
    site = codec.decode_site(snapshot.data, snapshot.version) if snapshot else None
    after = snapshot.seq if snapshot and site else 0
    return replay(log.read(after), site or State()), after


def replay(entries: Iterable[Entry], site: Site) -> State:
    """The state that the entries lead to, from `site` on."""
    site = whole(site)
    index = Index.of(site)
    for entry in entries:
        apply(site, index, codec.decode(entry.kind, entry.data), entry.time_ns)
    return site
