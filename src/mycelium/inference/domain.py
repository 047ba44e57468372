"""Language models as a domain: what the head knows of them by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mycelium.base.domain import Asked, Decided, Domain, Due, EventKind, Needs, Rule, View
from mycelium.base.errors import Denied, Missing, Problem
from mycelium.base.ids import AccountId
from mycelium.base.subject import A_GATEWAY, ADMIN, ANY_USER, GATEWAY, OPERATOR, USER, Guard, Subject, owned
from mycelium.base.units import S_NS
from mycelium.inference import apply as changes
from mycelium.inference import commands as asks
from mycelium.inference import events as happened
from mycelium.inference import rules
from mycelium.inference.model import Inference
from mycelium.inference.plan import Load, Pace
from mycelium.inference.replicas import Replicas
from mycelium.inference.story import SENTENCES
from mycelium.jobs.index import Index

LOOK_NS = S_NS // 20


def load(view: View, now_ns: int) -> Load:
    """What gateways see of deployments and replicas."""
    return _replicas(view).load(now_ns)


def _replicas(view: View) -> Replicas:
    return view.memory["inference"]


def _decide(view: View, asked: Asked, now_ns: int) -> Decided:
    return rules.decide(asked.command, view.state, view.state.inference, now_ns)


def _report(view: View, asked: Asked, now_ns: int) -> Decided:
    """Answers with what the gateway should know of the others."""
    events, _ = _decide(view, asked, now_ns)
    _replicas(view).heard(asked.command, now_ns)
    return events, _replicas(view).others(asked.command, now_ns)


def _plan(view: View, due: Due) -> Iterable[Any]:
    known = _replicas(view)
    if due.closing or due.now_ns - known.looked_ns < LOOK_NS or not view.state.inference.deployments:
        return ()
    known.looked_ns = due.now_ns
    index: Index = view.derived["jobs"]
    return (event for events in known.due(view.state, index, due.now_ns) for event in events)


def _memory(state: Any, chosen: Pace, now_ns: int) -> Replicas:
    return Replicas(chosen)


# Whose it is.


def _owner_of_model(view: View, command: asks.RemoveModel) -> AccountId | None:
    model = view.state.inference.models.get(command.name)
    return model.account if model else None


def _owner_of_deployment(view: View, command: asks.Deploy | asks.Undeploy) -> AccountId | None:
    deployment = view.state.inference.deployments.get(command.name)
    return deployment.account if deployment else None


def _may_deploy(subject: Subject, view: View, command: asks.Deploy) -> Problem | None:
    if command.serving.upstream and not subject.has(ADMIN):
        return Denied("only an admin may name a server that the gateway speaks with")
    return None


def _may_revoke(subject: Subject, view: View, command: asks.RevokeKey) -> Problem | None:
    """What is not one's own is as unknown as what is not there."""
    named = rules.keys_named(view.state.inference, subject.account, command.key)
    if not named or (named[0].account != subject.account and not subject.has(OPERATOR, ADMIN)):
        return Missing(f"no key of yours is called {command.key[:64]!r}", hint="`myc key list` lists them")
    return None


def _may_touch_batch(subject: Subject, view: View, command: asks.CancelBatch) -> Problem | None:
    batch = view.state.inference.batches.get(command.batch)
    whose = command.account if subject.has(GATEWAY) else subject.account
    if batch is None or (batch.account != whose and not subject.has(OPERATOR, ADMIN)):
        return Missing(f"no such batch: {command.batch[:64]}")
    return None


def _needs(state: Any) -> Needs:
    inference: Inference = state.inference
    needs = Needs(set(), set())
    needs.trees.update(found.serving.workdir for found in inference.deployments.values() if found.serving.workdir)
    needs.plain.update(model.digest for model in inference.models.values())
    needs.plain.update(part for file in inference.files.values() for part in file.parts)
    needs.plain.update(part for batch in inference.batches.values() for part in (*batch.outputs, *batch.errors))
    return needs


def _apply(view: View, event: Any, at_ns: int) -> None:
    changes.apply(view.state.inference, event, at_ns)


ABOUT = {
    happened.UsageRecorded: (),
    **dict.fromkeys((happened.ModelAdded, happened.ModelRemoved), ("model",)),
    **dict.fromkeys((happened.KeyCreated, happened.KeyRevoked), ("key",)),
    **dict.fromkeys((happened.FileAdded, happened.FileRemoved), ("file",)),
    **dict.fromkeys(
        (happened.DeploymentSet, happened.DeploymentLeaving, happened.DeploymentGone, happened.TargetChanged),
        ("deployment",),
    ),
    **dict.fromkeys(
        (happened.ReplicaStarted, happened.ReplicaReady, happened.ReplicaDraining, happened.ReplicaGone),
        ("job", "deployment"),
    ),
}
OF_ITS_ACCOUNT = owned(lambda view, record: record.account)
FOR_AN_ACCOUNT = Guard("a gateway of the site, for the account that shows a key", (GATEWAY,))

DOMAIN = Domain(
    name="inference",
    tables=Inference,
    kinds=tuple(EventKind(kind, _apply, says, ABOUT.get(kind, ("batch",))) for kind, says in SENTENCES.items()),
    commands={
        asks.AddModel: Rule(_decide, ANY_USER),
        asks.RemoveModel: Rule(_decide, owned(_owner_of_model)),
        asks.Deploy: Rule(_decide, owned(_owner_of_deployment)._replace(more=_may_deploy)),
        asks.Undeploy: Rule(_decide, owned(_owner_of_deployment)),
        asks.CreateKey: Rule(_decide, ANY_USER),
        asks.RevokeKey: Rule(_decide, Guard("its account, an operator or an admin", (USER,), more=_may_revoke)),
        asks.CancelBatch: Rule(
            _decide, Guard("its account, an operator or an admin", (USER, GATEWAY), more=_may_touch_batch)
        ),
        **dict.fromkeys((asks.AddFile, asks.RemoveFile, asks.CreateBatch), Rule(_decide, FOR_AN_ACCOUNT)),
        **dict.fromkeys((asks.ClaimBatch, asks.CheckBatch, asks.CommitLines, asks.EndBatch), Rule(_decide, A_GATEWAY)),
        asks.Report: Rule(_report, A_GATEWAY),
    },
    memory=_memory,
    chooses=Pace,
    plan=_plan,
    needs=_needs,
    looks={
        "models, deployments and their replicas": ANY_USER,
        "a batch": OF_ITS_ACCOUNT,
        "a key": OF_ITS_ACCOUNT,
        "what an account used": owned(lambda view, account: account),
        "keys and what was used, one's own": ANY_USER,
        "what gateways are told": A_GATEWAY,
    },
)
