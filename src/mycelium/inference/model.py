"""Models, deployments, replicas, keys, files and batches: frozen records, and the tables that hold them.

A deployment is a model that the site serves under a name. Its replicas are service jobs (`Request.service`), one each;
or it has none, because its requests go to a server elsewhere (`upstream`).
Never: reads a clock, sees a key (only its hash comes in here), or knows how a replica is reached.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from msgspec import Struct, field

from mycelium.base.ids import AccountId, Digest, JobId
from mycelium.jobs.model import Site
from mycelium.nodes.model import Devices


class ModelKind(StrEnum):
    """What a model is asked for."""

    CHAT = "chat"  # chat completions and completions
    EMBEDDING = "embedding"


class Backend(StrEnum):
    """What runs a replica. All of them speak OpenAI's HTTP on a socket of the step's directory."""

    LLAMA = "llama.cpp"
    VLLM = "vllm"


class Model(Struct, frozen=True):
    """A catalogue entry: the weights are an object of the site."""

    name: str
    digest: Digest
    size_bytes: int
    kind: ModelKind
    source: str
    by: str
    account: AccountId
    added_ns: int


class Serving(Struct, frozen=True):
    """How a deployment is to be run, as a user asked for it. Units: `context` is tokens of one request."""

    model: str = ""
    upstream: str = ""
    kind: ModelKind = ModelKind.CHAT
    backend: Backend = Backend.LLAMA
    replicas_min: int = 1
    replicas_max: int = 1
    needs: Devices = Devices()
    parallel: int = 4  # requests that one replica works on at once
    context: int = 2048
    workdir: Digest | None = None  # the tree that a replica begins with: the weights and the program
    on: tuple[str, ...] = ()
    upstream_model: str = ""  # what the upstream calls it; empty: as the deployment is called

    @property
    def scales(self) -> bool:
        return self.replicas_min < self.replicas_max


class Deployment(Struct, frozen=True):
    """`target` is how many replicas there should be now; `failures` are those since one lived well."""

    name: str
    account: AccountId
    by: str
    serving: Serving
    target: int
    changed_ns: int
    failures: int = 0
    failed_ns: int = 0
    message: str = ""
    leaving: bool = False  # goes when its last replica is gone


class ReplicaState(StrEnum):
    STARTING = "starting"
    READY = "ready"  # it has answered a gateway
    DRAINING = "draining"  # gets no new request, and is stopped when it has none left


class Replica(Struct, frozen=True):
    """One service job of a deployment. `attempt` is the one that `ready_ns` speaks of."""

    job: JobId
    deployment: str
    state: ReplicaState
    started_ns: int
    ready_ns: int = 0
    attempt: int = 0
    drained_ns: int = 0
    why: str = ""


class Used(Struct, frozen=True):
    """What was used: of one key, in one window, or in all. Units: tokens; `ttft_ms` is the sum over `streams`."""

    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ttft_ms: int = 0
    streams: int = 0

    def __add__(self, other: Used) -> Used:
        return Used(
            self.requests + other.requests,
            self.failed + other.failed,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.ttft_ms + other.ttft_ms,
            self.streams + other.streams,
        )


class ApiKey(Struct, frozen=True):
    """Who may ask the gateway, for what, and how much. 0 means no limit; no pattern means every deployment."""

    id: str
    name: str
    account: AccountId
    hash: str
    created_ns: int
    rpm: int = 0
    tpm: int = 0
    models: tuple[str, ...] = ()
    used: Used = Used()


class StoredFile(Struct, frozen=True):
    """A file of the API: its bytes are those of the parts, one after another."""

    id: str
    account: AccountId
    name: str
    purpose: str
    size_bytes: int
    parts: tuple[Digest, ...]
    created_ns: int


class BatchState(StrEnum):
    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


BATCH_ENDED = frozenset({BatchState.FAILED, BatchState.COMPLETED, BatchState.EXPIRED, BatchState.CANCELLED})
Span = tuple[int, int]  # lines from the first up to and without the second


class Mistake(Struct, frozen=True):
    """What is wrong with a line of a batch; line 0 means the whole file."""

    code: str
    line: int
    message: str
    param: str | None = None


class Batch(Struct, frozen=True):
    """A file of requests, worked off in idle time. `done` are the lines whose result is committed: each once.

    `runner` is the life of the gateway that works on it now: nobody else may commit its lines.
    """

    id: str
    account: AccountId
    key: str
    endpoint: str
    input_file: str
    state: BatchState
    created_ns: int
    expires_ns: int
    metadata: dict[str, str] = field(default_factory=dict)
    model: str = ""  # that all its lines ask
    total: int = 0
    completed: int = 0
    failed: int = 0
    unrun: int = 0  # of those that failed: never sent to a model, because the batch was cancelled or had expired
    done: tuple[Span, ...] = ()
    outputs: tuple[Digest, ...] = ()
    errors: tuple[Digest, ...] = ()
    sizes_bytes: tuple[int, int] = (0, 0)  # of outputs and errors
    runner: str = ""
    mistakes: tuple[Mistake, ...] = ()
    output_file: str = ""
    error_file: str = ""
    used: Used = Used()
    times_ns: dict[str, int] = field(default_factory=dict)  # when it came into each state


class Inference(Struct):
    """All of it. `version` grows with every event that gateways must know of."""

    models: dict[str, Model] = field(default_factory=dict)
    deployments: dict[str, Deployment] = field(default_factory=dict)
    replicas: dict[JobId, Replica] = field(default_factory=dict)
    keys: dict[str, ApiKey] = field(default_factory=dict)
    files: dict[str, StoredFile] = field(default_factory=dict)
    batches: dict[str, Batch] = field(default_factory=dict)
    used: dict[AccountId, Used] = field(default_factory=dict)
    heard: dict[str, int] = field(default_factory=dict)  # the newest window of usage of each gateway's life
    next_key: int = 1
    version: int = 0

    def replicas_of(self, deployment: str) -> list[Replica]:
        return [replica for replica in self.replicas.values() if replica.deployment == deployment]


class Served(Site, Protocol):
    """What models know of the state of a site."""

    inference: Inference
