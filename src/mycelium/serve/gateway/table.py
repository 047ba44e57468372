"""What the head tells every gateway, again whenever it changes: who may ask, for what, and which replicas there are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from mycelium.base.home import Home
from mycelium.base.ids import AccountId, JobId, NodeId
from mycelium.engine.passage import Gate, key_of
from mycelium.head.steps import step_name
from mycelium.inference.launch import SOCKET
from mycelium.inference.model import BATCH_ENDED, Backend, BatchState, ModelKind, ReplicaState, Served
from mycelium.inference.rules import current_attempt


class DeploymentRow(Struct, frozen=True):
    name: str
    kind: ModelKind
    backend: Backend
    upstream: str
    parallel: int
    context: int
    by: str
    changed_s: int
    leaving: bool  # gets no new request; what it has is ended
    upstream_model: str = ""
    upstream_key: str = ""


class ReplicaRow(Struct, frozen=True):
    """A replica whose step may run: behind a socket on the machine of the head, or behind a gate on another one.

    Neither is known for a moment when the head has just begun and that machine has not spoken yet.
    """

    job: JobId
    deployment: str
    attempt: int
    draining: bool
    socket: str = ""
    gate: Gate | None = None


class CallerRow(Struct, frozen=True):
    """Who shows what has this hash: a key, or an account's own token (then `key` is empty and there is no limit)."""

    hash: str
    key: str
    account: AccountId
    rpm: int = 0
    tpm: int = 0
    models: tuple[str, ...] = ()


class BatchRow(Struct, frozen=True):
    """A batch that has not ended. How far it is, its runner asks for."""

    id: str
    account: AccountId
    key: str
    endpoint: str
    input_file: str
    state: BatchState
    expires_ns: int


class GatewayTable(Struct, frozen=True):
    deployments: tuple[DeploymentRow, ...] = ()
    replicas: tuple[ReplicaRow, ...] = ()
    callers: tuple[CallerRow, ...] = ()
    batches: tuple[BatchRow, ...] = ()


class Machines(Struct, frozen=True):
    """Where the passages of the machines that joined are, by node, and what gateways show there and to upstreams."""

    home: Path
    secret: str
    passages: Mapping[NodeId, str] = {}
    ca: str = ""
    upstream_keys: Mapping[tuple[str, str], str] = {}  # by deployment and upstream


def mark(state: Served, machines: Machines) -> tuple[object, ...]:
    """Differs whenever `table_of` does."""
    replicas = tuple(current_attempt(state, replica) for replica in state.inference.replicas.values())
    passages = tuple(machines.passages.items()) if replicas else ()
    keys = tuple(machines.upstream_keys.items())
    return (state.inference.version, replicas, frozenset(state.accounts.by_token), passages, keys)


def table_of(state: Served, machines: Machines) -> GatewayTable:
    inference = state.inference
    deployments = tuple(
        DeploymentRow(
            name,
            known.serving.kind,
            known.serving.backend,
            known.serving.upstream,
            known.serving.parallel,
            known.serving.context,
            known.by,
            known.changed_ns // 1_000_000_000,
            known.leaving,
            known.serving.upstream_model,
            machines.upstream_keys.get((name, known.serving.upstream), ""),
        )
        for name, known in inference.deployments.items()
    )
    keys = [CallerRow(key.hash, key.id, key.account, key.rpm, key.tpm, key.models) for key in inference.keys.values()]
    own = [CallerRow(token, "", account) for token, account in state.accounts.by_token.items()]
    batches = tuple(
        BatchRow(one.id, one.account, one.key, one.endpoint, one.input_file, one.state, one.expires_ns)
        for one in inference.batches.values()
        if one.state not in BATCH_ENDED
    )
    return GatewayTable(deployments, tuple(_replicas(state, machines)), (*keys, *own), batches)


def _replicas(state: Served, machines: Machines) -> list[ReplicaRow]:
    rows: list[ReplicaRow] = []
    for replica in state.inference.replicas.values():
        attempt = current_attempt(state, replica)
        if not attempt:
            continue
        job = state.jobs.by_id[replica.job]
        task = job.tasks[0]
        step = step_name(job, task, 0)
        node = state.nodes.by_id[task.nodes[0]]
        socket, gate = "", None
        if not node.machine:
            socket = str(Home(machines.home).node(node.id).step(step) / "work" / SOCKET)
        elif node.id in machines.passages:
            key = key_of(machines.secret, node.machine)
            gate = Gate(machines.passages[node.id], key, node.id, step, machines.ca)
        draining = replica.state is ReplicaState.DRAINING or job.cancelled or task.state.value == "stopping"
        rows.append(ReplicaRow(replica.job, replica.deployment, attempt, draining, socket, gate))
    return rows
