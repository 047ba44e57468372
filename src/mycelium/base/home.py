"""What lies where in `$MYC_HOME`: the one table of its layout, for a site's head and for a machine that joined.

"On disk" in ARCHITECTURE.md is this table for people. What is in a file stands with whoever writes it. The files of one
step are `agent/record`'s, those of the objects `store/directory`'s.
Never: looks at a disk, or chooses the home.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_GATEWAY_PID = re.compile(r"gateway(?:-([0-9]{1,4}))?\.pid")


class At:
    """A file or directory of this name in a `Directory`: `Home(path).lock` is `path / "lock"`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, within: Directory, _: type) -> Path:
        return within.path / self.name


@dataclass(frozen=True)
class Directory:
    path: Path


class TlsFiles(Directory):
    """Certificates of machines, and their keys. The key of the CA is the head's alone."""

    ca, ca_key = At("ca.pem"), At("ca.key")
    site, site_key = At("site.pem"), At("site.key")
    machine, machine_key = At("machine.pem"), At("machine.key")


class AuthorityFiles(Directory):
    """The authority that vouches for signers of programs."""

    key = At("authority.key")
    certificate = At("authority.pem")
    revoked = At("revoked.pem")
    issued = At("issued")  # each certificate under its serial number


class RayFiles(Directory):
    """What we keep of Ray on this machine; its own files are in a temporary directory."""

    token = At("token")
    pid = At("pid")  # the supervisor of Ray's processes
    port = At("port")
    life = At("life")  # to which life of the head's Ray ours belongs
    log = At("ray.log")


class NodeFiles(Directory):
    """One node's."""

    agent_pid = At("agent.pid")  # the agent's lock, which says what process that is
    agent_log = At("agent.log")
    life_port = At("life.port")
    ports = At("ports.json")  # lent to steps
    empty = At("empty")  # stands in sandboxes for what is not to be seen
    steps = At("steps")

    def step(self, step: str) -> Path:
        return self.steps / step


@dataclass(frozen=True)
class GatewayFiles:
    """One gateway's, which lie in the home itself: `gateway.pid` of the first, `gateway-2.pid` of another."""

    home: Path
    name: str

    @property
    def pid(self) -> Path:
        """Its lock, which says what process it is."""
        return self.home / f"{self.name}.pid"

    @property
    def json(self) -> Path:
        """Where it answers."""
        return self.home / f"{self.name}.json"

    @property
    def log(self) -> Path:
        return self.home / f"{self.name}.log"


class Home(Directory):
    # One of each has the home at a time: a head, an engine, a `myc join`.
    lock = At("lock")
    engine_lock = At("engine.lock")
    join_lock = At("join.lock")

    log = At("site.db")  # the events, unless PostgreSQL has them; SQLite and `log/sqlite` keep more beside it
    exported = At("log")  # files of events that have left the log
    site = At("site.json")  # how the commands of this machine find the site; there while it runs
    up = At("up.json")  # how the site was started
    nodes_count = At("nodes.count")  # how many nodes it had on this machine
    last_word = At("last-word")  # why the head ended, if nobody told it to
    head_log = At("head.log")

    tokens = At("tokens")
    admin_token = At("tokens/admin")
    join_token = At("tokens/join")  # what a machine shows that wants to join, and the CA that it is to trust
    gateway_token = At("tokens/gateway")
    upstream_keys = At("tokens/upstreams")  # what gateways show to servers elsewhere

    objects = At("objects")
    results = At("results")  # of programs that ran here without a site
    nodes = At("nodes")
    engine_socket = At("engine.sock")  # where agents knock, unless this is too long for a socket's path
    batches_lock = At("gateway.batches")  # of the one gateway that runs the batches

    machine_key = At("machine.key")  # who has it is this machine, to the site that it joined
    way = At("way.json")  # how porters are reached from here
    porter_key = At("porter.key")
    porter_port = At("porter.port")
    porter_log = At("porter.log")
    pool = At("pool.json")  # how the pool that the engine has itself is reached, if it has one
    bridge_log = At("bridge.log")

    @property
    def tls(self) -> TlsFiles:
        return TlsFiles(self.path / "tls")

    @property
    def ca(self) -> AuthorityFiles:
        return AuthorityFiles(self.path / "ca")

    @property
    def ray(self) -> RayFiles:
        return RayFiles(self.path / "ray")

    def node(self, node: str) -> NodeFiles:
        return NodeFiles(self.nodes / node)

    def gateway(self, number: int) -> GatewayFiles:
        return GatewayFiles(self.path, f"gateway-{number}" if number > 1 else "gateway")

    @staticmethod
    def gateway_numbers(names: Iterable[str]) -> list[int]:
        """Of which gateways there are pid files among these names, in order."""
        found = map(_GATEWAY_PID.fullmatch, names)
        return sorted(int(match[1] or 1) for match in found if match)
