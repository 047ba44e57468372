"""Jobs, their tasks, attempts and steps: frozen records, and the tables that hold them.

A job is one record whatever its size: an array of 100,000 tasks holds a position in its range, and a task becomes a
record of its own only when it starts. A job that is no array is a job of one task.
Never: reads a clock, opens a file, or knows how a node is reached.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Protocol

from msgspec import Struct, field

from mycelium.accounts.model import Accounts
from mycelium.base.ids import AccountId, Digest, JobId, NodeId, StepId, TaskId, step_id, task_id
from mycelium.nodes.model import Devices, Nodes


class Priority(IntEnum):
    LOW = 0
    NORMAL = 1
    HIGH = 2


class Sandbox(StrEnum):
    """How far a step is kept from everything else."""

    NONE = "none"  # the agent's own user, no isolation: the admin's alone
    PROCESS = "process"  # bubblewrap


class Array(Struct, frozen=True):
    """Indices `start`, `start + step`, … up to and with `stop`; at most `throttle` at once (0: no bound)."""

    start: int
    stop: int
    step: int = 1
    throttle: int = 0

    @property
    def indices(self) -> range:
        return range(self.start, self.stop + 1, self.step)


class Request(Struct, frozen=True):
    """What a user asked for, checked and in the system's units (see request.py for how people write it).

    Units: `needs` is per node; `time_ms` bounds one attempt.
    """

    command: tuple[str, ...]
    name: str
    needs: Devices
    time_ms: int
    nodes: int = 1
    array: Array | None = None
    after: tuple[JobId, ...] = ()
    inputs: tuple[
        JobId, ...
    ] = ()  # jobs whose outputs are put under inputs/JOB[/INDEX]; all of them are in `after` too
    priority: Priority = Priority.NORMAL
    on: tuple[str, ...] = ()  # selector terms (nodes/select.py)
    retries: int = 0
    env: dict[str, str] = field(default_factory=dict)
    net: bool = False
    workdir: Digest | None = None
    outputs: tuple[str, ...] = ()
    sandbox: Sandbox = Sandbox.PROCESS
    service: bool = False  # runs until it is cancelled: `time_ms` is what plans reckon with, and no limit
    program: Digest | None = None  # a Polymer container; `command` and `workdir` follow from it (see program.py)
    input: Digest | None = None  # the values of its inputs
    elastic: bool = False  # a gang whose rank 0 decides: it goes on without those of the others that end


class JobState(StrEnum):
    BLOCKED = "blocked"  # waits for the jobs it comes after
    QUEUED = "queued"  # has tasks that wait, none that runs
    RUNNING = "running"
    DONE = "done"  # every task exited with 0
    FAILED = "failed"
    CANCELLED = "cancelled"


FIRST_STATES = {"held": "blocked"}  # words of 0.1 for states: snapshots hold them, and people may still say them
ENDED = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED})


class TaskState(StrEnum):
    QUEUED = "queued"  # again: an attempt was lost, stopped or failed with retries left
    PLACED = "placed"  # holds a lease; the order is on its way
    RUNNING = "running"
    STOPPING = "stopping"  # told to stop; holds its lease until every step is gone
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


LEASED = frozenset({TaskState.PLACED, TaskState.RUNNING, TaskState.STOPPING})
TASK_ENDED = frozenset({TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED})


class Cause(StrEnum):
    """Why an attempt is stopped or a task is queued again."""

    CANCEL = "cancel"
    DRAIN = "drain"  # its node is wanted empty now
    GANG = "gang"  # another step of the same attempt ended badly
    LEAD = "lead"  # rank 0 of an elastic gang ended: nothing is left for the others to do
    NODE_LOST = "node-lost"
    STEP_LOST = "step-lost"  # killed from outside, with its node alive
    RETRY = "retry"  # it failed and has retries left
    SITE_DOWN = "site-down"
    TIME = "time"  # the node did not stop it at its limit: the head does


class Reason(StrEnum):
    """Why a step ended."""

    EXIT = "exit"  # by itself: the exit code says the rest
    TIME = "time"  # its time limit
    STOPPED = "stopped"  # an order to stop: cancel, drain, another rank failed
    MEMORY = "memory"  # more memory than it asked for
    DISK = "disk"  # more disk than it may have
    LOST = "lost"  # the shim is gone without a word (killed, or the machine went down)
    FAILED_START = "failed-start"  # the step could not be begun: no such command, missing object, no sandbox


class Ended(Struct, frozen=True):
    """How a step ended. `exit_code` is the shell's convention: 128 + n for signal n."""

    reason: Reason
    exit_code: int
    message: str = ""  # for people, where the reason does not say it all
    outputs: Digest | None = None  # a tree object
    stdout: Digest | None = None  # what was kept of the log, as an object; None: empty
    stderr: Digest | None = None
    started_ns: int = 0
    ended_ns: int = 0
    cpu_ms: int = 0
    memory_peak_bytes: int = 0
    stdout_from: int = 0  # what was dropped of the log before that which was kept, in bytes
    stderr_from: int = 0


class Task(Struct, frozen=True):
    """One index of a job, once it has started. `nodes[rank]` and `ends[rank]` belong together."""

    index: int
    state: TaskState
    attempt: int = 0
    nodes: tuple[NodeId, ...] = ()
    ends: tuple[Ended | None, ...] = ()
    cause: Cause | None = None  # why it is being stopped, or was queued again last
    placed_ns: int = 0
    started_ns: int = 0
    ended_ns: int = 0
    exit_code: int | None = None
    message: str = ""
    losses: int = 0
    failures: int = 0
    port: int = 0  # where rank 0 of a gang listens; 0: none is held for it

    def live_ranks(self) -> list[int]:
        """The ranks whose step may still run."""
        return [rank for rank, end in enumerate(self.ends) if end is None] if self.state in LEASED else []


class Job(Struct, frozen=True):
    """What a user asked for, and how far it has come.

    `cursor` is the position in the array's indices before which every task has started; `again` are the indices that
    started before and wait again.
    """

    id: JobId
    account: AccountId
    request: Request
    state: JobState
    submitted_ns: int
    tasks: dict[int, Task] = field(default_factory=dict)  # by index; 0 for a job that is no array
    cursor: int = 0
    again: tuple[int, ...] = ()
    leased: int = 0  # tasks that hold a lease
    ended: int = 0
    failed: int = 0
    waits_for: tuple[JobId, ...] = ()  # the jobs of `after` that have not ended
    cancelled: bool = False
    started_ns: int = 0
    ended_ns: int = 0
    exit_code: int | None = None
    message: str = ""

    @property
    def size(self) -> int:
        return len(self.request.array.indices) if self.request.array else 1

    @property
    def waiting(self) -> int:
        """Tasks that could be placed, had they the devices (before the throttle)."""
        return self.size - self.leased - self.ended

    @property
    def placeable(self) -> int:
        """How many tasks the plan may place now: none of a blocked, cancelled or ended job, none above the throttle."""
        if self.state is JobState.BLOCKED or self.state in ENDED or self.cancelled:
            return 0
        throttle = self.request.array.throttle if self.request.array else 0
        return min(self.waiting, throttle - self.leased) if throttle else self.waiting

    def index_at(self, position: int) -> int:
        return self.request.array.indices[position] if self.request.array else 0

    def task_name(self, index: int) -> TaskId:
        return task_id(self.id, index if self.request.array else None)

    def step_name(self, index: int, attempt: int, rank: int) -> StepId:
        return step_id(self.task_name(index), attempt, rank)


class IdempotencyKey(Struct, frozen=True):
    """An idempotency key's memory: what was submitted with it."""

    jobs: tuple[JobId, ...]
    at_ns: int
    print: str  # fingerprint of the requests: the same key with another content is a conflict


class Jobs(Struct):
    by_id: dict[JobId, Job] = field(default_factory=dict)
    next_number: int = 1
    keys: dict[str, IdempotencyKey] = field(default_factory=dict)  # by account/key
    ended: dict[JobId, int] = field(default_factory=dict)  # when each ended job ended, oldest first


class Site(Protocol):
    """What jobs know of the state of a site. Domains above this one have tables beside these."""

    nodes: Nodes
    accounts: Accounts
    jobs: Jobs
