"""What can happen to models, deployments, keys, files and batches. Field names and meanings are for ever."""

from __future__ import annotations

from msgspec import Struct, field

from mycelium.base.ids import AccountId, Digest, JobId
from mycelium.inference.model import BatchState, Mistake, ModelKind, Serving, Span, Used


class ModelAdded(Struct, frozen=True):
    model: str
    digest: Digest
    size_bytes: int
    kind: ModelKind
    source: str
    by: str
    account: AccountId


class ModelRemoved(Struct, frozen=True):
    model: str
    by: str


class DeploymentSet(Struct, frozen=True):
    """Made, or changed to be run like this."""

    deployment: str
    account: AccountId
    by: str
    serving: Serving
    target: int


class DeploymentLeaving(Struct, frozen=True):
    deployment: str
    by: str


class DeploymentGone(Struct, frozen=True):
    deployment: str


class TargetChanged(Struct, frozen=True):
    """There should be more or fewer replicas, and why."""

    deployment: str
    target: int
    why: str


class ReplicaStarted(Struct, frozen=True):
    """This service job is a replica of that deployment."""

    deployment: str
    job: JobId


class ReplicaReady(Struct, frozen=True):
    deployment: str
    job: JobId
    attempt: int


class ReplicaDraining(Struct, frozen=True):
    deployment: str
    job: JobId
    why: str


class ReplicaGone(Struct, frozen=True):
    """Its job has ended. `failed`: nobody wanted it to."""

    deployment: str
    job: JobId
    failed: bool
    message: str = ""


class KeyCreated(Struct, frozen=True):
    key: str
    name: str
    account: AccountId
    hash: str
    by: str
    rpm: int = 0
    tpm: int = 0
    models: tuple[str, ...] = ()


class KeyRevoked(Struct, frozen=True):
    key: str
    by: str


class UsageRow(Struct, frozen=True):
    """`key` is empty for who showed an account's own token."""

    key: str
    account: AccountId
    deployment: str
    used: Used


class UsageRecorded(Struct, frozen=True):
    """What was used through one gateway from one moment to another. Numbers of one gateway's life grow."""

    gateway: str
    number: int
    from_ns: int
    to_ns: int
    rows: tuple[UsageRow, ...]


class FileAdded(Struct, frozen=True):
    file: str
    account: AccountId
    name: str
    purpose: str
    size_bytes: int
    parts: tuple[Digest, ...]


class FileRemoved(Struct, frozen=True):
    file: str
    account: AccountId


class BatchCreated(Struct, frozen=True):
    batch: str
    account: AccountId
    key: str
    endpoint: str
    input_file: str
    expires_ns: int
    metadata: dict[str, str] = field(default_factory=dict)


class BatchClaimed(Struct, frozen=True):
    batch: str
    runner: str


class BatchChecked(Struct, frozen=True):
    batch: str
    total: int
    mistakes: tuple[Mistake, ...] = ()
    model: str = ""


class LinesDone(Struct, frozen=True):
    """The one commit of these lines: their results are the lines of these two objects."""

    batch: str
    done: tuple[Span, ...]
    completed: int
    failed: int
    output: Digest | None = None
    error: Digest | None = None
    sizes_bytes: tuple[int, int] = (0, 0)
    used: Used = Used()
    unrun: int = 0


class BatchTurned(Struct, frozen=True):
    """It came into another state. The files are there once it has ended."""

    batch: str
    state: BatchState
    output_file: str = ""
    error_file: str = ""


InferenceEvent = (
    ModelAdded
    | ModelRemoved
    | DeploymentSet
    | DeploymentLeaving
    | DeploymentGone
    | TargetChanged
    | ReplicaStarted
    | ReplicaReady
    | ReplicaDraining
    | ReplicaGone
    | KeyCreated
    | KeyRevoked
    | UsageRecorded
    | FileAdded
    | FileRemoved
    | BatchCreated
    | BatchClaimed
    | BatchChecked
    | LinesDone
    | BatchTurned
)
