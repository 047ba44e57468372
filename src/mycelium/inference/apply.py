"""What an event changes of models, deployments, keys, files and batches: the only thing that changes these tables.

Never: refuses, reads a clock, or does I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from mycelium.base.ids import AccountId
from mycelium.base.limits import (
    BATCHES_MAX,
)
from mycelium.base.units import S_NS
from mycelium.inference import events as happened
from mycelium.inference.events import InferenceEvent
from mycelium.inference.model import (
    BATCH_ENDED,
    ApiKey,
    Batch,
    BatchState,
    Deployment,
    Inference,
    Model,
    Replica,
    ReplicaState,
    StoredFile,
    Used,
)
from mycelium.inference.spans import union


def apply(state: Inference, event: InferenceEvent, at_ns: int) -> None:
    """Change the tables by one event. Never refuses."""
    APPLY[type(event)](state, event, at_ns)
    if type(event) not in QUIET:
        state.version += 1


# What gateways need not hear of, or hear when they ask: these may come many times a second.
QUIET = frozenset({happened.UsageRecorded, happened.FileAdded, happened.FileRemoved, happened.LinesDone})


def _model_added(state: Inference, event: happened.ModelAdded, at_ns: int) -> None:
    state.models[event.model] = Model(
        event.model, event.digest, event.size_bytes, event.kind, event.source, event.by, event.account, at_ns
    )


def _model_removed(state: Inference, event: happened.ModelRemoved, at_ns: int) -> None:
    state.models.pop(event.model, None)


def _deployment_set(state: Inference, event: happened.DeploymentSet, at_ns: int) -> None:
    known = state.deployments.get(event.deployment)
    owner = (known.account, known.by) if known else (event.account, event.by)
    state.deployments[event.deployment] = Deployment(event.deployment, *owner, event.serving, event.target, at_ns)


def _deployment_leaving(state: Inference, event: happened.DeploymentLeaving, at_ns: int) -> None:
    known = state.deployments[event.deployment]
    state.deployments[event.deployment] = replace(known, leaving=True, target=0, changed_ns=at_ns)


def _deployment_gone(state: Inference, event: happened.DeploymentGone, at_ns: int) -> None:
    state.deployments.pop(event.deployment, None)


def _target_changed(state: Inference, event: happened.TargetChanged, at_ns: int) -> None:
    known = state.deployments[event.deployment]
    state.deployments[event.deployment] = replace(known, target=event.target, changed_ns=at_ns)


def _replica_started(state: Inference, event: happened.ReplicaStarted, at_ns: int) -> None:
    state.replicas[event.job] = Replica(event.job, event.deployment, ReplicaState.STARTING, at_ns)


def _replica_ready(state: Inference, event: happened.ReplicaReady, at_ns: int) -> None:
    known = state.replicas[event.job]
    turned = ReplicaState.READY if known.state is ReplicaState.STARTING else known.state
    state.replicas[event.job] = replace(known, state=turned, ready_ns=at_ns, attempt=event.attempt)


def _replica_draining(state: Inference, event: happened.ReplicaDraining, at_ns: int) -> None:
    known = state.replicas[event.job]
    state.replicas[event.job] = replace(known, state=ReplicaState.DRAINING, drained_ns=at_ns, why=event.why)


def _replica_gone(state: Inference, event: happened.ReplicaGone, at_ns: int) -> None:
    known = state.replicas.pop(event.job, None)
    deployment = state.deployments.get(event.deployment)
    if deployment is None or known is None or not event.failed:
        return
    lived_well = known.ready_ns and at_ns - known.ready_ns >= LIVED_WELL_NS
    state.deployments[event.deployment] = replace(
        deployment,
        failures=1 if lived_well else deployment.failures + 1,
        failed_ns=at_ns,
        message=event.message,
    )


LIVED_WELL_NS = 60 * S_NS  # a replica that served this long has shown that it can: its end is no sign of a bad one


def _key_created(state: Inference, event: happened.KeyCreated, at_ns: int) -> None:
    state.keys[event.key] = ApiKey(
        event.key, event.name, event.account, event.hash, at_ns, event.rpm, event.tpm, event.models
    )
    state.next_key += 1


def _key_revoked(state: Inference, event: happened.KeyRevoked, at_ns: int) -> None:
    state.keys.pop(event.key, None)


def _usage_recorded(state: Inference, event: happened.UsageRecorded, at_ns: int) -> None:
    state.heard[event.gateway] = event.number
    while len(state.heard) > 64:  # lives of gateways that ended long ago
        del state.heard[next(iter(state.heard))]
    for row in event.rows:
        _charge(state, row.key, row.account, row.used)


def _charge(state: Inference, key: str, account: AccountId, used: Used) -> None:
    known = state.keys.get(key)
    if known is not None:
        state.keys[key] = replace(known, used=known.used + used)
    state.used[account] = state.used.get(account, Used()) + used


def _file_added(state: Inference, event: happened.FileAdded, at_ns: int) -> None:
    state.files[event.file] = StoredFile(
        event.file, event.account, event.name, event.purpose, event.size_bytes, event.parts, at_ns
    )


def _file_removed(state: Inference, event: happened.FileRemoved, at_ns: int) -> None:
    state.files.pop(event.file, None)


def _batch_created(state: Inference, event: happened.BatchCreated, at_ns: int) -> None:
    state.batches[event.batch] = Batch(
        event.batch,
        event.account,
        event.key,
        event.endpoint,
        event.input_file,
        BatchState.VALIDATING,
        at_ns,
        event.expires_ns,
        event.metadata,
    )
    ended = [batch.id for batch in state.batches.values() if batch.state in BATCH_ENDED]
    for name in ended[:-BATCHES_MAX]:  # the oldest leave; what they wrote stays until it is deleted
        del state.batches[name]


def _batch_claimed(state: Inference, event: happened.BatchClaimed, at_ns: int) -> None:
    state.batches[event.batch] = replace(state.batches[event.batch], runner=event.runner)


def _batch_checked(state: Inference, event: happened.BatchChecked, at_ns: int) -> None:
    known = state.batches[event.batch]
    state.batches[event.batch] = replace(known, total=event.total, mistakes=event.mistakes, model=event.model)


def _lines_done(state: Inference, event: happened.LinesDone, at_ns: int) -> None:
    known = state.batches[event.batch]
    state.batches[event.batch] = replace(
        known,
        done=union(known.done, event.done),
        completed=known.completed + event.completed,
        failed=known.failed + event.failed,
        outputs=known.outputs + ((event.output,) if event.output else ()),
        errors=known.errors + ((event.error,) if event.error else ()),
        sizes_bytes=(known.sizes_bytes[0] + event.sizes_bytes[0], known.sizes_bytes[1] + event.sizes_bytes[1]),
        used=known.used + event.used,
        unrun=known.unrun + event.unrun,
    )
    _charge(state, known.key, known.account, event.used)


def _batch_turned(state: Inference, event: happened.BatchTurned, at_ns: int) -> None:
    known = state.batches[event.batch]
    state.batches[event.batch] = replace(
        known,
        state=event.state,
        output_file=event.output_file or known.output_file,
        error_file=event.error_file or known.error_file,
        times_ns={**known.times_ns, event.state.value: at_ns},
    )


APPLY: dict[type, Callable[[Inference, Any, int], None]] = {
    happened.ModelAdded: _model_added,
    happened.ModelRemoved: _model_removed,
    happened.DeploymentSet: _deployment_set,
    happened.DeploymentLeaving: _deployment_leaving,
    happened.DeploymentGone: _deployment_gone,
    happened.TargetChanged: _target_changed,
    happened.ReplicaStarted: _replica_started,
    happened.ReplicaReady: _replica_ready,
    happened.ReplicaDraining: _replica_draining,
    happened.ReplicaGone: _replica_gone,
    happened.KeyCreated: _key_created,
    happened.KeyRevoked: _key_revoked,
    happened.UsageRecorded: _usage_recorded,
    happened.FileAdded: _file_added,
    happened.FileRemoved: _file_removed,
    happened.BatchCreated: _batch_created,
    happened.BatchClaimed: _batch_claimed,
    happened.BatchChecked: _batch_checked,
    happened.LinesDone: _lines_done,
    happened.BatchTurned: _batch_turned,
}
