"""What may happen to models, deployments, keys, files and batches: a command becomes events, or is refused.

A line of a batch is committed once: by the runner that has the batch now, and never when it is done already.
Never: changes anything (`apply.py` does), reads a clock, makes a key, or opens a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from mycelium.accounts.model import Account
from mycelium.accounts.rules import find as find_account
from mycelium.base.errors import Conflict, Exhausted, Missing, Refused
from mycelium.base.ids import AccountId
from mycelium.base.limits import (
    BATCH_LINES_MAX,
    BATCH_WINDOW_S,
    BATCHES_MAX,
    CONTEXT_TOKENS_MAX,
    DEPLOYMENTS_MAX,
    FILES_MAX,
    KEYS_MAX,
    MODELS_MAX,
    PARALLEL_MAX,
    REPLICAS_MAX,
)
from mycelium.base.units import S_NS
from mycelium.inference import commands as asked
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
    ModelKind,
    Replica,
    Serving,
    StoredFile,
)
from mycelium.inference.spans import count, overlap
from mycelium.jobs.model import Site

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
ENDPOINTS = {
    "/v1/chat/completions": ModelKind.CHAT,
    "/v1/completions": ModelKind.CHAT,
    "/v1/embeddings": ModelKind.EMBEDDING,
}
Decided = tuple[list[InferenceEvent], Any]


def decide(command: asked.InferenceCommand, site: Site, state: Inference, now_ns: int) -> Decided:
    """The events that a command leads to, and what its caller is told. Errors: whatever the tables forbid."""
    return DECIDE[type(command)](command, site, state, now_ns)


# People's.


def _account(site: Site, account: AccountId) -> Account:
    return find_account(site.accounts, account)


def check_name(name: str, what: str) -> None:
    if _NAME.fullmatch(name) is None or ".." in name or name.endswith("/"):
        raise Refused(
            f"{name[:64]!r} is not a name for a {what}", hint="use letters, digits, dot, dash, slash and underscore"
        )


def _add_model(command: asked.AddModel, site: Site, state: Inference, now_ns: int) -> Decided:
    account = _account(site, command.account)
    check_name(command.name, "model")
    known = state.models.get(command.name)
    if known is not None:
        if known.digest == command.digest:
            return [], known.name
        raise Conflict(f"a model is called {command.name!r} already", hint=f"`myc model remove {command.name}` first")
    if len(state.models) >= MODELS_MAX:
        raise Exhausted(f"the site has {MODELS_MAX} models", hint="remove some")
    added = happened.ModelAdded(
        command.name, command.digest, command.size_bytes, command.kind, command.source, account.name, account.id
    )
    return [added], command.name


def _remove_model(command: asked.RemoveModel, site: Site, state: Inference, now_ns: int) -> Decided:
    account = _account(site, command.account)
    model = find_model(state, command.name)
    users = [d.name for d in state.deployments.values() if d.serving.model == model.name]
    if users:
        raise Conflict(
            f"the model {model.name!r} is served as {users[0]!r}", hint=f"`myc serve {users[0]} --stop` first"
        )
    return [happened.ModelRemoved(model.name, account.name)], None


def find_model(state: Inference, name: str) -> Model:
    found = state.models.get(name)
    if found is None:
        raise Missing(
            f"no model is called {name[:64]!r}", hint=f"`myc model pull {name[:64]}` fetches it, if it is known"
        )
    return found


def find_deployment(state: Inference, name: str) -> Deployment:
    found = state.deployments.get(name)
    if found is None:
        raise Missing(f"nothing is served as {name[:64]!r}", hint="`myc deployment list` lists what is")
    return found


def _deploy(command: asked.Deploy, site: Site, state: Inference, now_ns: int) -> Decided:
    account = _account(site, command.account)
    check_name(command.name, "deployment")
    check_serving(command.serving, state)
    known = state.deployments.get(command.name)
    if known is not None:
        if known.leaving:
            raise Conflict(f"{command.name!r} is being stopped", hint="wait until its replicas are gone")
    elif len(state.deployments) >= DEPLOYMENTS_MAX:
        raise Exhausted(f"the site serves {DEPLOYMENTS_MAX} deployments", hint="stop some")
    serving = command.serving
    was = known.target if known else serving.replicas_min
    target = 0 if serving.upstream else min(max(was, serving.replicas_min), serving.replicas_max)
    return [happened.DeploymentSet(command.name, account.id, account.name, serving, target)], command.name


def check_serving(serving: Serving, state: Inference) -> None:
    """Errors: `Refused`, `Missing`."""
    if bool(serving.model) == bool(serving.upstream):
        raise Refused("a deployment has either a model or an upstream")
    if serving.upstream:
        if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", serving.upstream):
            raise Refused(f"{serving.upstream[:80]!r} is not a URL", hint="it looks like http://host:8000/v1")
        return
    find_model(state, serving.model)
    for what, number, low, high in (
        ("replicas, at least,", serving.replicas_min, 0, REPLICAS_MAX),
        ("replicas, at most,", serving.replicas_max, 1, REPLICAS_MAX),
        ("requests at once", serving.parallel, 1, PARALLEL_MAX),
        ("tokens of context", serving.context, 64, CONTEXT_TOKENS_MAX),
    ):
        if not low <= number <= high:
            raise Refused(f"{number} {what} is out of range: from {low} to {high}")
    if serving.replicas_min > serving.replicas_max:
        raise Refused(f"at least {serving.replicas_min} replicas, and at most {serving.replicas_max}")


def _undeploy(command: asked.Undeploy, site: Site, state: Inference, now_ns: int) -> Decided:
    account = _account(site, command.account)
    found = find_deployment(state, command.name)
    return ([] if found.leaving else [happened.DeploymentLeaving(found.name, account.name)]), None


def _create_key(command: asked.CreateKey, site: Site, state: Inference, now_ns: int) -> Decided:
    account = _account(site, command.account)
    if not command.name.strip() or len(command.name) > 64 or not command.name.isprintable():
        raise Refused("a key's name must be 1 to 64 printable characters")
    if len(state.keys) >= KEYS_MAX:
        raise Exhausted(f"the site has {KEYS_MAX} keys", hint="revoke some")
    for what, number in (("rpm", command.rpm), ("tpm", command.tpm)):
        if not 0 <= number <= 1_000_000_000:
            raise Refused(f"{what} is {number}; it must be from 0 (no limit) to 1000000000")
    if len(command.models) > 32 or any(not 1 <= len(pattern) <= 128 for pattern in command.models):
        raise Refused("at most 32 patterns of 1 to 128 characters name the models of a key")
    name = f"key-{state.next_key}"
    made = happened.KeyCreated(
        name, command.name, account.id, command.hash, account.name, command.rpm, command.tpm, command.models
    )
    return [made], name


def _revoke_key(command: asked.RevokeKey, site: Site, state: Inference, now_ns: int) -> Decided:
    account = _account(site, command.account)
    named = keys_named(state, account.id, command.key)
    if not named:
        raise Missing(f"no key of yours is called {command.key[:64]!r}", hint="`myc key list` lists them")
    if len(named) > 1:
        raise Refused(f"{len(named)} keys are called {command.key[:64]!r}", hint=f"use an id: {named[0].id}")
    return [happened.KeyRevoked(named[0].id, account.name)], named[0].id


def keys_named(state: Inference, account: AccountId, text: str) -> list[ApiKey]:
    """The key of that id, else those of that name: the account's own first, and only if it has any."""
    if text in state.keys:
        return [state.keys[text]]
    named = [key for key in state.keys.values() if key.name == text]
    return [key for key in named if key.account == account] or named


def allows(patterns: tuple[str, ...], deployment: str) -> bool:
    """Whether a key with these patterns may ask this deployment."""
    return not patterns or any(fnmatchcase(deployment, pattern) for pattern in patterns)


# Gateways'.


def _report(command: asked.Report, site: Site, state: Inference, now_ns: int) -> Decided:
    events: list[InferenceEvent] = []
    for seen in command.seen:
        replica = state.replicas.get(seen.job)
        if replica is not None and seen.ready and current_attempt(site, replica) == seen.attempt != replica.attempt:
            events.append(happened.ReplicaReady(replica.deployment, replica.job, seen.attempt))
    if command.rows and command.number > state.heard.get(command.boot, 0):
        rows = command.rows
        events.append(happened.UsageRecorded(command.boot, command.number, command.from_ns, command.to_ns, rows))
    return events, None


def current_attempt(site: Site, replica: Replica) -> int:
    """The attempt of a replica's job that holds a lease; 0 when none does."""
    job = site.jobs.by_id.get(replica.job)
    task = job.tasks.get(0) if job else None
    return task.attempt if task is not None and task.live_ranks() else 0


def _add_file(command: asked.AddFile, site: Site, state: Inference, now_ns: int) -> Decided:
    _account(site, command.account)
    if command.file in state.files:
        return [], command.file  # said again because the answer was lost
    if len(state.files) >= FILES_MAX:
        raise Exhausted(f"the site keeps {FILES_MAX} files", hint="delete some")
    added = happened.FileAdded(
        command.file, command.account, command.name, command.purpose, command.size_bytes, command.parts
    )
    return [added], command.file


def find_file(state: Inference, account: AccountId, file: str) -> StoredFile:
    """What another account stored is as unknown as what nobody did."""
    found = state.files.get(file)
    if found is None or found.account != account:
        raise Missing(f"no such file: {file[:64]}")
    return found


def find_batch(state: Inference, account: AccountId, batch: str) -> Batch:
    found = state.batches.get(batch)
    if found is None or found.account != account:
        raise Missing(f"no such batch: {batch[:64]}")
    return found


def _remove_file(command: asked.RemoveFile, site: Site, state: Inference, now_ns: int) -> Decided:
    found = find_file(state, command.account, command.file)
    for batch in state.batches.values():
        if batch.input_file == found.id and batch.state not in BATCH_ENDED:
            raise Conflict(f"{found.id} is the input of {batch.id}", hint="cancel the batch, or wait until it ends")
    return [happened.FileRemoved(found.id, found.account)], None


def _create_batch(command: asked.CreateBatch, site: Site, state: Inference, now_ns: int) -> Decided:
    if command.batch in state.batches:
        return [], command.batch
    find_file(state, command.account, command.input_file)
    if command.endpoint not in ENDPOINTS:
        raise Refused(
            f"{command.endpoint[:64]!r} is not an endpoint of a batch", hint=f"one of: {', '.join(ENDPOINTS)}"
        )
    alive = sum(1 for batch in state.batches.values() if batch.state not in BATCH_ENDED)
    if alive >= BATCHES_MAX:
        raise Exhausted(f"the site has {alive} batches that have not ended", hint="wait until some have")
    made = happened.BatchCreated(
        command.batch,
        command.account,
        command.key,
        command.endpoint,
        command.input_file,
        now_ns + (command.window_s or BATCH_WINDOW_S) * S_NS,
        command.metadata,
    )
    return [made], command.batch


def _claim_batch(command: asked.ClaimBatch, site: Site, state: Inference, now_ns: int) -> Decided:
    batch = _batch(state, command.batch)
    if batch.state in BATCH_ENDED:
        raise Conflict(f"{batch.id} has ended")
    return ([] if batch.runner == command.runner else [happened.BatchClaimed(batch.id, command.runner)]), None


def _batch(state: Inference, name: str) -> Batch:
    found = state.batches.get(name)
    if found is None:
        raise Missing(f"no such batch: {name[:64]}")
    return found


def _claimed(state: Inference, name: str, runner: str) -> Batch:
    """The batch, if this runner has it. Errors: `Conflict` for anybody else: another one does its lines."""
    batch = _batch(state, name)
    if batch.runner != runner or batch.state in BATCH_ENDED:
        raise Conflict(f"{batch.id} is worked on by another gateway, or has ended")
    return batch


def _check_batch(command: asked.CheckBatch, site: Site, state: Inference, now_ns: int) -> Decided:
    batch = _claimed(state, command.batch, command.runner)
    if batch.total or batch.mistakes:
        return [], None
    if not command.mistakes and not 1 <= command.total <= BATCH_LINES_MAX:
        raise Refused(f"a batch of {command.total} lines; from 1 to {BATCH_LINES_MAX} are allowed")
    events: list[InferenceEvent] = [happened.BatchChecked(batch.id, command.total, command.mistakes, command.model)]
    if command.mistakes:
        events.append(happened.BatchTurned(batch.id, BatchState.FAILED))
    elif batch.state is BatchState.VALIDATING:
        events.append(happened.BatchTurned(batch.id, BatchState.IN_PROGRESS))
    return events, None


def _commit_lines(command: asked.CommitLines, site: Site, state: Inference, now_ns: int) -> Decided:
    batch = _claimed(state, command.batch, command.runner)
    lines = count(command.done)
    if overlap(batch.done, command.done):
        raise Conflict(f"lines of {batch.id} are done already", hint="read again which")
    if not lines or lines != command.completed + command.failed or command.done[-1][1] > batch.total:
        raise Refused(f"{lines} lines of {batch.id} do not add up")
    made = happened.LinesDone(
        batch.id,
        command.done,
        command.completed,
        command.failed,
        command.output,
        command.error,
        command.sizes_bytes,
        command.used,
        command.unrun,
    )
    return [made], None


def _cancel_batch(command: asked.CancelBatch, site: Site, state: Inference, now_ns: int) -> Decided:
    batch = _batch(state, command.batch)
    if batch.state in BATCH_ENDED:
        raise Conflict(f"{batch.id} is {batch.state.value} already")
    if batch.state in (BatchState.CANCELLING, BatchState.FINALIZING):
        return [], None
    return [happened.BatchTurned(batch.id, BatchState.CANCELLING)], None


def _end_batch(command: asked.EndBatch, site: Site, state: Inference, now_ns: int) -> Decided:
    """Completed when every line was run; else cancelled or expired, with what was finished."""
    batch = _claimed(state, command.batch, command.runner)
    left = batch.total - count(batch.done)
    if batch.state is BatchState.CANCELLING:
        ending = BatchState.CANCELLED
    elif (left or batch.unrun or not batch.total) and now_ns >= batch.expires_ns:
        ending = BatchState.EXPIRED
    elif batch.total and not left:
        ending = BatchState.COMPLETED
    else:
        raise Conflict(f"{batch.id} has {left} lines to do")
    events: list[InferenceEvent] = []
    if ending is BatchState.COMPLETED:
        events.append(happened.BatchTurned(batch.id, BatchState.FINALIZING))
    names: list[str] = []
    for word, parts, size_bytes in (
        ("output", batch.outputs, batch.sizes_bytes[0]),
        ("error", batch.errors, batch.sizes_bytes[1]),
    ):
        names.append(f"file-{batch.id.removeprefix('batch_')}-{word}" if parts else "")
        if parts:
            name = f"{batch.id}_{word}.jsonl"
            events.append(happened.FileAdded(names[-1], batch.account, name, "batch_output", size_bytes, parts))
    return [*events, happened.BatchTurned(batch.id, ending, names[0], names[1])], ending.value


DECIDE: dict[type, Callable[[Any, Site, Inference, int], Decided]] = {
    asked.AddModel: _add_model,
    asked.RemoveModel: _remove_model,
    asked.Deploy: _deploy,
    asked.Undeploy: _undeploy,
    asked.CreateKey: _create_key,
    asked.RevokeKey: _revoke_key,
    asked.Report: _report,
    asked.AddFile: _add_file,
    asked.RemoveFile: _remove_file,
    asked.CreateBatch: _create_batch,
    asked.ClaimBatch: _claim_batch,
    asked.CheckBatch: _check_batch,
    asked.CommitLines: _commit_lines,
    asked.CancelBatch: _cancel_batch,
    asked.EndBatch: _end_batch,
}
