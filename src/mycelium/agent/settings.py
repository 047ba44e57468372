"""What one agent is told at its start, and where its files are."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct, field

from mycelium.base.home import Home, NodeFiles
from mycelium.base.ids import NodeId
from mycelium.nodes.model import Devices


class AgentSettings(Struct, frozen=True):
    home: Path
    node: NodeId
    name: str
    devices: Devices
    cores: tuple[int, ...]
    gpus: tuple[int, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    address: str = "127.0.0.1"
    way: Path | None = None  # how porters are reached; None: the head's objects are on this machine
    porter: str = ""  # this machine's own porter

    @property
    def files(self) -> NodeFiles:
        return Home(self.home).node(self.node)

    @property
    def directory(self) -> Path:
        return self.files.path

    @property
    def steps(self) -> Path:
        return self.files.steps

    @property
    def pool(self) -> Path:
        """Where the engine says how the pool that it has itself is reached, if it has one."""
        return Home(self.home).pool

    @property
    def objects(self) -> Path:
        return Home(self.home).objects
