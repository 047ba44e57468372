"""A site with a model, for tests: what is asked of it, and what follows, through the same rules as in the head."""

from __future__ import annotations

from typing import Any

from mycelium.accounts.model import Role
from mycelium.base.domain import View
from mycelium.base.ids import AccountId, Digest, JobId
from mycelium.base.subject import GATE, GATEWAY
from mycelium.base.units import S_NS
from mycelium.inference import rules
from mycelium.inference.apply import apply
from mycelium.inference.commands import AddModel, Deploy, DeploymentQueue, Report, SeenReplica
from mycelium.inference.domain import DOMAIN
from mycelium.inference.events import InferenceEvent
from mycelium.inference.model import Deployment, ModelKind, Replica, Served, Serving
from mycelium.inference.plan import Action, Load, Scale, plan
from mycelium.inference.replicas import events_of
from mycelium.nodes.model import Devices
from tests.sites import Play

DIGEST = Digest("ab" * 32)


class Scene:
    def __init__(self, nodes: int = 2) -> None:
        self.play = Play()
        for _ in range(nodes):
            self.play.node()
        self.account = self.play.account(role=Role.ADMIN)
        self.state: Served = self.play.site
        self.memories: dict[str, Scale] = {}
        self.whole = True
        self.queues: dict[str, DeploymentQueue] = {}
        self.seen: dict[JobId, SeenReplica] = {}

    @property
    def now_ns(self) -> int:
        return self.play.now_ns

    @property
    def tables(self) -> Any:
        return self.state.inference

    def ask(self, command: Any) -> list[InferenceEvent]:
        """Errors: those of its guard, then those of its rule."""
        guard = DOMAIN.commands[type(command)].guard
        known = self.state.accounts.by_id.get(AccountId(getattr(command, "account", "")))
        subject = known.subject("test") if known and GATEWAY not in guard.roles else GATE
        guard.check(subject, View(self.state, {}, {}), command)
        events, _ = rules.decide(command, self.state, self.tables, self.now_ns)
        for event in events:
            self.happened(event)
        return events

    def happened(self, event: InferenceEvent) -> None:
        apply(self.tables, event, self.now_ns)

    def model(self, name: str = "m", kind: ModelKind = ModelKind.CHAT) -> None:
        self.ask(AddModel(self.account, name, DIGEST, 100, kind, "test"))

    def deploy(self, least: int = 1, most: int | None = None, name: str = "m", parallel: int = 4) -> Deployment:
        if "m" not in self.tables.models:
            self.model()
        most = max(least, 1) if most is None else most
        serving = Serving("m", replicas_min=least, replicas_max=most, needs=Devices(1000, 1), parallel=parallel)
        self.ask(Deploy(self.account, name, serving))
        return self.tables.deployments[name]

    def step(self) -> list[Action]:
        """One plan, and everything that follows from it at once."""
        load = Load(self.queues, self.seen, self.whole)
        actions, self.memories = plan(self.state, self.tables, load, self.memories, self.now_ns)
        for action in actions:
            for event in events_of(action, self.state, self.play.index):
                if isinstance(event, InferenceEvent):
                    self.happened(event)
                else:
                    self.play._apply(event)
        self.play.step()
        return actions

    def later(self, seconds: float) -> None:
        self.play.later(round(seconds * 1000))

    def replicas(self, name: str = "m") -> list[Replica]:
        return self.tables.replicas_of(name)

    def starts(self, replica: Replica) -> None:
        """Its step runs and answers a gateway."""
        job = self.play.job(replica.job)
        self.play.start(job)
        attempt = job.tasks[0].attempt
        self.seen[replica.job] = SeenReplica(replica.job, attempt, True)
        self.ask(report(self.seen.values()))

    def load(self, waiting: int = 0, active: int = 0, lines: int = 0, name: str = "m") -> None:
        self.queues[name] = DeploymentQueue(name, waiting, active, 0, lines)


def report(seen: Any = (), number: int = 0, rows: Any = (), boot: str = "boot") -> Any:
    return Report(boot, "http://gateway", (), tuple(seen), number, 0, S_NS, tuple(rows))
