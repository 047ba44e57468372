"""What agents and engines say, and what it means: events where something has happened, orders where something is amiss.

Only the node's own word ends a step, and only the current attempt's: whatever an older one says leads to no event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from mycelium.base.domain import View
from mycelium.base.errors import Refused
from mycelium.base.ids import NodeId, StepId, split_step
from mycelium.base.units import MS_NS, S_NS
from mycelium.engine.orders import Beat, Exited, Hello, Running, Started
from mycelium.engine.seam import NodeDown, NodeUp
from mycelium.head.mouth import Mouth
from mycelium.head.steps import step_name
from mycelium.jobs import rules
from mycelium.jobs.domain import index_of
from mycelium.jobs.model import Cause, Ended, Job, Task, TaskState
from mycelium.nodes import rules as node_rules
from mycelium.nodes.domain import voices
from mycelium.nodes.rules import Join

OVERTIME_NS = 60 * S_NS  # beyond a limit that the node should have kept: the head stops it then
BEATS_MISSED = 2  # beats that must lack a step that ran before it is taken for lost
Found = tuple[Job, Task, int]


class Ear:
    def __init__(self, view: View, mouth: Mouth, emit: Callable[[Iterable[Any]], None]) -> None:
        self.view = view
        self.mouth = mouth
        self.emit = emit

    def node_up(self, said: NodeUp, now_ns: int) -> None:
        self.hello(said.hello, now_ns)

    def hello(self, said: Hello, now_ns: int) -> None:
        """Errors: `Refused`, `Denied`, `Conflict` for a node that may not join."""
        join = Join(said.node, said.name, said.devices, said.labels, said.address, said.ports)
        self.emit(node_rules.decide(join, self.view.state.nodes))
        voices(self.view).hello(said.node, said.boot, now_ns)

    def node_down(self, said: NodeDown, now_ns: int) -> None:
        voices(self.view).gone(said.node, said.why, dead=said.dead)

    def beat(self, said: Beat, now_ns: int) -> None:
        if not voices(self.view).is_news(said.node, said.boot, said.number):
            return
        for gone in said.gone:
            self._step_ended(said.node, gone.step, gone.ended)
        strays = [running for running in said.running if not self._runs_as_it_should(said.node, running, now_ns)]
        voices(self.view).beat(said.node, now_ns, clean=not strays)
        self._miss(said)

    def started(self, said: Started, now_ns: int) -> None:
        found = self._current(said.node, said.step)
        if found is not None:
            self._runs(found, said, now_ns)

    def exited(self, said: Exited, now_ns: int) -> None:
        self._step_ended(said.node, said.step, said.ended)

    def _runs_as_it_should(self, node: NodeId, running: Running, now_ns: int) -> bool:
        """Whether a step that a node runs is one that it should run; a stray is told to stop."""
        found = self._current(node, running.step)
        if found is None:
            self.mouth.stop(node, running.step)
            return False
        self.mouth.missed.pop(running.step, None)
        if running.started_ns:
            self._runs(found, running, now_ns)
        if found[1].state is TaskState.STOPPING:
            self.mouth.stop(node, running.step)
        return True

    def _runs(self, found: Found, running: Running | Started, now_ns: int) -> None:
        """A step of the current attempt runs. Its time is measured by this head's clock since it first heard of it:
        the node's clock may be another, and this one may have been set since the step began."""
        job, task, rank = found
        seen_ns = self.mouth.seen_ns.setdefault(running.step, now_ns)
        self.emit(rules.decide_started(job, task, rank, running.started_ns))
        if not job.request.service and now_ns - seen_ns > job.request.time_ms * MS_NS + OVERTIME_NS:
            task = self.view.state.jobs.by_id[job.id].tasks[task.index]
            self.emit(rules.decide_stop(job, task, Cause.TIME, "site"))

    def _miss(self, beat: Beat) -> None:
        """What a node should have and does not name: it is ordered again, or the node is asked to say that it is lost.

        Only the node's own word ends a step: a beat may have been made before the order came, and arrive after it.
        """
        named = {running.step for running in beat.running} | {gone.step for gone in beat.gone}
        for job, task in index_of(self.view).leased_on(self.view.state, beat.node):
            for rank in task.live_ranks():
                step = step_name(job, task, rank)
                if task.nodes[rank] != beat.node or step in named:
                    continue
                if task.state is TaskState.STOPPING:
                    self.mouth.stop(beat.node, step)
                elif step not in self.mouth.seen_ns and not (task.started_ns and len(task.nodes) == 1):
                    self.mouth.start(job, task, rank)
                else:
                    self._missed(job, task, rank, step)

    def _missed(self, job: Job, task: Task, rank: int, step: StepId) -> None:
        missed = self.mouth.missed[step] = self.mouth.missed.get(step, 0) + 1
        if missed < BEATS_MISSED:
            return
        if rules.spare(job, rank):
            self.mouth.stop(task.nodes[rank], step)
        else:
            self.emit(rules.decide_stop(job, task, Cause.STEP_LOST, "site"))

    def _step_ended(self, node: NodeId, step: StepId, ended: Ended) -> None:
        self.mouth.forget(node, step)
        found = self._current(node, step)
        if found is None:  # an older attempt, or a repetition: committed elsewhere or void
            self.mouth.forget_order(step)
            return
        job, task, rank = found
        self.emit(rules.decide_ended(self.view.state, index_of(self.view), job, task, [rank], ended))

    def _current(self, node: NodeId, step: StepId) -> Found | None:
        """The fence: the task whose current attempt has this very step alive on this very node."""
        try:
            job, index, attempt, rank = split_step(step)
        except Refused:
            return None
        found = rules.current(self.view.state, job, index, attempt, rank)
        if found is None or found[1].nodes[rank] != node:
            return None
        return (*found, rank)


HEARS: dict[type, Callable[[Ear, Any, int], None]] = {
    NodeUp: Ear.node_up,
    NodeDown: Ear.node_down,
    Hello: Ear.hello,
    Beat: Ear.beat,
    Started: Ear.started,
    Exited: Ear.exited,
}
