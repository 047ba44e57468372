"""What the head tells an agent (orders) and what an agent tells the head (reports).

Orders are idempotent and may be repeated or lost: an agent that already knows a step answers `Start` with nothing new,
one that never heard of it answers `Stop` with `Exited(reason=LOST)`. Reports may be repeated or late: each names its
step, and a step's name holds the attempt, so the head can tell a late one. An agent repeats `Exited` in every `Beat`
until `Forget` says that the head has committed it.
"""

from __future__ import annotations

from msgspec import Struct, field

from mycelium.base.ids import Digest, NodeId, StepId
from mycelium.jobs.model import Ended, Reason, Sandbox
from mycelium.nodes.model import Devices

# 2: machines prove keys and never send them, steps say whether they are services, and commands may begin with a name
# (see `agent.shim.names`).
WIRE_VERSION = 2

__all__ = ["Ended", "Reason", "Sandbox"]  # what a step may be and how it ends is said by jobs; agents read it here


class Step(Struct, frozen=True):
    """All that a node needs in order to run one step of an attempt.

    Units: `time_ms` 0 means no limit. `env` already holds the MYC_… variables.
    """

    id: StepId
    command: tuple[str, ...]
    devices: Devices
    time_ms: int
    grace_ms: int
    sandbox: Sandbox
    service: bool = False  # runs until it is stopped, and serves at a socket in its directory
    net: bool = False
    env: dict[str, str] = field(default_factory=dict)
    workdir: Digest | None = None  # a tree object to begin with; None: an empty directory
    inputs: tuple[tuple[str, Digest], ...] = ()  # further tree objects, each under its path in the directory
    outputs: tuple[str, ...] = ()  # globs under the directory, collected into a tree when the step exits with 0
    disk_bytes: int = 0  # 0: the node's default
    port: int = 0  # one of those that its node holds: free when the step begins


# Orders: head to agent.


class Start(Struct, frozen=True, tag="start"):
    step: Step


class Stop(Struct, frozen=True, tag="stop"):
    """SIGTERM now, SIGKILL to everything that is left after `grace_ms`."""

    step: StepId
    grace_ms: int


class Forget(Struct, frozen=True, tag="forget"):
    """The head has committed the end of this step: its directory may go."""

    step: StepId


class Tail(Struct, frozen=True, tag="tail"):
    """Send a step's log as `Chunk`s from `offset` on; with `follow`, until the step has ended."""

    tail: int
    step: StepId
    stream: str  # stdout or stderr
    offset: int = 0
    follow: bool = False


class Untail(Struct, frozen=True, tag="untail"):
    tail: int


class Shutdown(Struct, frozen=True, tag="shutdown"):
    """End the agent. With `stop_steps` its steps are stopped first and reported as they end."""

    stop_steps: bool
    grace_ms: int


Order = Start | Stop | Forget | Tail | Untail | Shutdown

# Reports: agent to head.


class Hello(Struct, frozen=True, tag="hello"):
    """The first report on every connection."""

    wire: int
    node: NodeId
    name: str
    boot: str  # differs for every life of the agent
    devices: Devices
    labels: dict[str, str]
    address: str
    version: str
    python: str
    ports: tuple[int, ...] = ()  # that it holds for gangs whose first rank runs here
    life_port: int = 0  # answers as long as the agent or one of its steps lives; 0: there is none


class Running(Struct, frozen=True):
    step: StepId
    started_ns: int  # 0: accepted, not yet started


class Gone(Struct, frozen=True):
    step: StepId
    ended: Ended


class Beat(Struct, frozen=True, tag="beat"):
    """Every second: the agent lives, and this is all it has. `number` grows; a lower one is an old message."""

    node: NodeId
    boot: str
    number: int
    running: tuple[Running, ...] = ()
    gone: tuple[Gone, ...] = ()
    disk_free_bytes: int = -1
    load: float = 0.0
    memory_used_bytes: int = 0


class Started(Struct, frozen=True, tag="started"):
    node: NodeId
    step: StepId
    started_ns: int


class Exited(Struct, frozen=True, tag="exited"):
    node: NodeId
    step: StepId
    ended: Ended


class Chunk(Struct, frozen=True, tag="chunk"):
    """A piece of a log. `offset` may be beyond what was asked for: the part before it was dropped.

    `end`: nothing more will come for this tail (also when the step is not known here)."""

    tail: int
    offset: int
    data: bytes
    end: bool = False


Report = Hello | Beat | Started | Exited | Chunk
