"""What can be asked about models, deployments, keys, files and batches: by people, and by gateways."""

from __future__ import annotations

from msgspec import Struct, field

from mycelium.base.ids import AccountId, Digest, JobId
from mycelium.inference.events import UsageRow
from mycelium.inference.model import Mistake, ModelKind, Serving, Span, Used


class AddModel(Struct, frozen=True):
    account: AccountId
    name: str
    digest: Digest
    size_bytes: int
    kind: ModelKind
    source: str


class RemoveModel(Struct, frozen=True):
    account: AccountId
    name: str


class Deploy(Struct, frozen=True):
    account: AccountId
    name: str
    serving: Serving


class Undeploy(Struct, frozen=True):
    account: AccountId
    name: str


class CreateKey(Struct, frozen=True):
    """Answers with the key's id."""

    account: AccountId
    name: str
    hash: str
    rpm: int = 0
    tpm: int = 0
    models: tuple[str, ...] = ()


class RevokeKey(Struct, frozen=True):
    account: AccountId
    key: str


# What gateways say.


class DeploymentQueue(Struct, frozen=True):
    """One deployment at one gateway, now. Units: requests; `waited_ms`: how long the first has waited."""

    deployment: str
    waiting: int = 0
    active: int = 0
    waited_ms: int = 0
    batch_lines: int = 0  # that wait or run


class SeenReplica(Struct, frozen=True):
    """One replica, or an upstream, as one gateway sees it. `silent_ms`: since it last answered."""

    job: JobId
    attempt: int
    ready: bool
    active: int = 0
    silent_ms: int = 0
    tokens_s: float = 0.0
    ttft_ms: int = 0
    requests: int = 0
    tokens: int = 0
    fault: str = ""  # of an upstream: why it cannot be used
    lines: int = 0  # of the active ones, those of batches


class Spent(Struct, frozen=True):
    """What a key with limits has taken at one gateway in this spell: see `inference/elsewhere.py`."""

    key: str
    requests: int
    tokens: int


class Report(Struct, frozen=True, tag="report"):
    """A gateway lives, and this is what it sees; with the usage since its last window, if there was any.

    Answers with `Others`.
    """

    boot: str
    url: str
    queues: tuple[DeploymentQueue, ...] = ()
    seen: tuple[SeenReplica, ...] = ()
    number: int = 0  # of the window of usage; it is said again until it is answered
    from_ns: int = 0
    to_ns: int = 0
    rows: tuple[UsageRow, ...] = ()
    spent: tuple[Spent, ...] | None = None  # None: as before; it is long, and said and answered now and then only


class Others(Struct, frozen=True):
    """The other gateways that live: what keys spent there, by gateway, and what each replica has of them."""

    spent: dict[str, tuple[Spent, ...]] = {}
    people: dict[JobId, int] = {}
    lines: dict[JobId, int] = {}


class AddFile(Struct, frozen=True, tag="add-file"):
    account: AccountId
    file: str
    name: str
    purpose: str
    size_bytes: int
    parts: tuple[Digest, ...]


class RemoveFile(Struct, frozen=True, tag="remove-file"):
    account: AccountId
    file: str


class CreateBatch(Struct, frozen=True, tag="create-batch"):
    account: AccountId
    batch: str
    key: str
    endpoint: str
    input_file: str
    metadata: dict[str, str] = field(default_factory=dict)
    window_s: int = 0  # 0: the usual one


class ClaimBatch(Struct, frozen=True, tag="claim-batch"):
    batch: str
    runner: str


class CheckBatch(Struct, frozen=True, tag="check-batch"):
    batch: str
    runner: str
    total: int
    mistakes: tuple[Mistake, ...] = ()
    model: str = ""


class CommitLines(Struct, frozen=True, tag="commit-lines"):
    batch: str
    runner: str
    done: tuple[Span, ...]
    completed: int
    failed: int
    output: Digest | None = None
    error: Digest | None = None
    sizes_bytes: tuple[int, int] = (0, 0)
    used: Used = Used()
    unrun: int = 0


class CancelBatch(Struct, frozen=True, tag="cancel-batch"):
    account: AccountId
    batch: str


class EndBatch(Struct, frozen=True, tag="end-batch"):
    """The runner has nothing left to do for it: all lines are done, or it was cancelled or has expired."""

    batch: str
    runner: str


GatewayCommand = (
    Report | AddFile | RemoveFile | CreateBatch | ClaimBatch | CheckBatch | CommitLines | CancelBatch | EndBatch
)
PeopleCommand = AddModel | RemoveModel | Deploy | Undeploy | CreateKey | RevokeKey
InferenceCommand = GatewayCommand | PeopleCommand
