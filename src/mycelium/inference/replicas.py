"""What is done for deployments: it keeps what gateways see, asks the plan what is due, and makes events of it.

What gateways see is no event: it is forgotten when a head dies, and they say it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from mycelium.base.ids import JobId, job_id
from mycelium.base.units import S_NS
from mycelium.inference import events as happened
from mycelium.inference import launch
from mycelium.inference import plan as planned
from mycelium.inference.commands import DeploymentQueue, Others, Report, SeenReplica
from mycelium.inference.model import Served
from mycelium.inference.plan import Load, Pace, Scale, plan
from mycelium.jobs import rules as job_rules
from mycelium.jobs.events import JobSubmitted
from mycelium.jobs.index import Index

WHOLE_NS = 3 * S_NS  # after its first report a head has heard of every gateway that lives
GATEWAY_GONE_NS = 5 * S_NS  # a gateway that reported nothing for so long counts no more


class Replicas:
    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._reports: dict[str, tuple[int, Report]] = {}  # by the life of a gateway
        self._first_ns: int | None = None
        self._memories: dict[str, Scale] = {}
        self.looked_ns = 0

    def heard(self, report: Report, now_ns: int) -> None:
        if self._first_ns is None:
            self._first_ns = now_ns
        before = self._reports.get(report.boot)
        if report.spent is None and before is not None:
            report = replace(report, spent=before[1].spent)
        self._reports[report.boot] = (now_ns, report)

    def load(self, now_ns: int) -> Load:
        """What the gateways that live see together."""
        queues: dict[str, DeploymentQueue] = {}
        seen: dict[JobId, SeenReplica] = {}
        for report in self._living(now_ns):
            for queue in report.queues:
                queues[queue.deployment] = _both(queues.get(queue.deployment), queue)
            for one in report.seen:
                seen[one.job] = _best(seen.get(one.job), one)
        whole = self._first_ns is not None and now_ns - self._first_ns >= WHOLE_NS
        return Load(queues, seen, whole)

    def others(self, asks: Report, now_ns: int) -> Others:
        """What a gateway should know of the others."""
        reports = [report for report in self._living(now_ns) if report.boot != asks.boot]
        people: dict[JobId, int] = {}
        lines: dict[JobId, int] = {}
        for one in (seen for report in reports for seen in report.seen):
            people[one.job] = people.get(one.job, 0) + one.active - one.lines
            lines[one.job] = lines.get(one.job, 0) + one.lines
        spent = {} if asks.spent is None else {report.boot: report.spent or () for report in reports}
        return Others(spent, people, lines)

    def _living(self, now_ns: int) -> list[Report]:
        self._reports = {
            boot: (at, said) for boot, (at, said) in self._reports.items() if now_ns - at < GATEWAY_GONE_NS
        }
        return [report for _, report in self._reports.values()]

    def due(self, site: Served, index: Index, now_ns: int) -> Iterator[list[Any]]:
        """The events of each action that is due. They must be applied before the next ones are asked for."""
        actions, self._memories = plan(site, site.inference, self.load(now_ns), self._memories, now_ns, self._pace)
        for action in actions:
            yield events_of(action, site, index)


def _both(one: DeploymentQueue | None, other: DeploymentQueue) -> DeploymentQueue:
    if one is None:
        return other
    return DeploymentQueue(
        one.deployment,
        one.waiting + other.waiting,
        one.active + other.active,
        max(one.waited_ms, other.waited_ms),
        one.batch_lines + other.batch_lines,
    )


def _best(one: SeenReplica | None, other: SeenReplica) -> SeenReplica:
    """A replica is as silent as the gateway thinks that heard of it last; its work is the sum."""
    if one is None:
        return other
    return SeenReplica(
        one.job,
        max(one.attempt, other.attempt),
        one.ready or other.ready,
        one.active + other.active,
        min(one.silent_ms, other.silent_ms),
        one.tokens_s + other.tokens_s,
        max(one.ttft_ms, other.ttft_ms),
        one.requests + other.requests,
        one.tokens + other.tokens,
        "" if one.ready or other.ready else one.fault,
        one.lines + other.lines,
    )


def events_of(action: planned.Action, site: Served, index: Index) -> list[Any]:
    """What an action of the plan is, in events."""
    state = site.inference
    match action:
        case planned.StartReplica(name):
            deployment = state.deployments[name]
            wanted = launch.request(name, deployment.serving)
            number = job_id(site.jobs.next_number)
            return [JobSubmitted(number, deployment.account, wanted), happened.ReplicaStarted(name, number)]
        case planned.DrainReplica(job, why):
            return [happened.ReplicaDraining(state.replicas[job].deployment, job, why)]
        case planned.StopReplica(job, _):
            owner = site.accounts.by_id[site.jobs.by_id[job].account]
            return [*job_rules.decide_cancel(site, index, job, None, owner.name)]
        case planned.Bury(job, failed, message):
            return [happened.ReplicaGone(state.replicas[job].deployment, job, failed, message)]
        case planned.Aim(name, target, why):
            return [happened.TargetChanged(name, target, why)]
        case planned.Leave(name):
            return [happened.DeploymentGone(name)]
