"""What nodes are told: the orders that committed events call for. Lost ones are made good by the next beat.

Never: says the same twice within a moment, or anything about an attempt that is over but that it shall end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from mycelium.base.domain import View
from mycelium.base.ids import NodeId, StepId
from mycelium.base.limits import ORDER_RESEND_MS, ORDERS_REMEMBERED_MAX
from mycelium.base.units import MS_NS
from mycelium.engine.orders import Forget, Order, Shutdown, Start, Stop
from mycelium.head.steps import build_step, step_name
from mycelium.jobs.events import StepEnded, TaskPlaced, TaskStopping
from mycelium.jobs.model import Job, Task
from mycelium.nodes.events import NodeLeft


class Mouth:
    """`seen_ns`: when this head first heard that a step runs. `missed`: beats that lacked a step that was seen."""

    def __init__(self, view: View, grace_ms: int) -> None:
        self.view = view
        self.grace_ms = grace_ms
        self.seen_ns: dict[StepId, int] = {}
        self.missed: dict[StepId, int] = {}
        self._sent_ns: dict[StepId, int] = {}  # when an order about a step was sent last
        self._orders: list[tuple[NodeId, Order]] = []
        self._now_ns = 0

    def begin(self, orders: list[tuple[NodeId, Order]], now_ns: int) -> None:
        """A turn: its orders are put there."""
        self._orders, self._now_ns = orders, now_ns
        if len(self._sent_ns) > ORDERS_REMEMBERED_MAX:  # a node may name any number of steps that nobody knows
            sent = self._sent_ns.items()
            self._sent_ns = {step: at for step, at in sent if now_ns - at < ORDER_RESEND_MS * MS_NS}

    def act(self, event: object) -> None:
        """What an event that is durable calls for."""
        act = self.ACTS.get(type(event))
        if act is not None:
            act(self, event)

    def start(self, job: Job, task: Task, rank: int) -> None:
        step = step_name(job, task, rank)
        if not self._said(step):
            self._say(task.nodes[rank], step, Start(build_step(self.view.state, job, task, rank)))

    def stop(self, node: NodeId, step: StepId) -> None:
        if not self._said(step):
            self._say(node, step, Stop(step, self.grace_ms))

    def forget(self, node: NodeId, step: StepId) -> None:
        """Its end is heard. Sent when that is durable."""
        self._orders.append((node, Forget(step)))

    def forget_order(self, step: StepId) -> None:
        self._sent_ns.pop(step, None)

    def _said(self, step: StepId) -> bool:
        sent_ns = self._sent_ns.get(step)
        return sent_ns is not None and self._now_ns - sent_ns < ORDER_RESEND_MS * MS_NS

    def _say(self, node: NodeId, step: StepId, order: Order) -> None:
        self._sent_ns[step] = self._now_ns
        self._orders.append((node, order))

    def _unsee(self, event: StepEnded) -> None:
        job = self.view.state.jobs.by_id.get(event.job)
        if job is not None:
            step = job.step_name(event.index, event.attempt, event.rank)
            for known in (self.seen_ns, self.missed, self._sent_ns):
                known.pop(step, None)

    def _task_changed(self, event: TaskPlaced | TaskStopping) -> None:
        job = self.view.state.jobs.by_id.get(event.job)
        task = job.tasks.get(event.index) if job else None
        if job is None or task is None or task.attempt != event.attempt:
            return
        for rank in task.live_ranks():
            step = step_name(job, task, rank)
            self.forget_order(step)
            if isinstance(event, TaskPlaced):
                self.start(job, task, rank)
            else:
                self.stop(task.nodes[rank], step)

    def _left(self, event: NodeLeft) -> None:
        """The agent of a machine that was taken out ends; one of our own would be started again."""
        if self.view.state.nodes.by_id[event.node].machine:
            self._orders.append((event.node, Shutdown(stop_steps=True, grace_ms=self.grace_ms)))

    ACTS: ClassVar[dict[type, Callable[[Mouth, Any], None]]] = {
        TaskPlaced: _task_changed,
        TaskStopping: _task_changed,
        StepEnded: _unsee,
        NodeLeft: _left,
    }
