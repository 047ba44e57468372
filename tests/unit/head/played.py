"""A core with a log in memory, and nodes that answer when a test says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mycelium.accounts.model import Role
from mycelium.accounts.rules import AddAccount
from mycelium.base.errors import Problem
from mycelium.base.ids import AccountId, JobId, NodeId, StepId
from mycelium.base.units import GIB, MIB, S_NS
from mycelium.engine.orders import (
    Beat,
    Ended,
    Exited,
    Forget,
    Gone,
    Hello,
    Order,
    Reason,
    Running,
    Start,
    Started,
    Stop,
)
from mycelium.engine.seam import NodeUp
from mycelium.head.core import Core, HeadSettings, Tick
from mycelium.jobs.commands import Submit
from mycelium.jobs.model import Array, Job, Request, Task
from mycelium.log import MemoryLog
from mycelium.nodes.model import Devices, Node
from tests.asked import asked

NOW_NS = 1_800_000_000 * S_NS
ROOT, ADA, BEN = AccountId("account-1"), AccountId("account-2"), AccountId("account-3")
GOOD = Ended(Reason.EXIT, 0)
BAD = Ended(Reason.EXIT, 3)
STOPPED = Ended(Reason.STOPPED, 143)
LOST = Ended(Reason.LOST, 137)


def request(cpus: float = 1, **keys: Any) -> Request:
    needs = Devices(round(cpus * 1000), 64 * MIB, keys.pop("gpus", 0))
    return Request(("true",), "true", needs, keys.pop("time_ms", 3_600_000), **keys)


def array(count: int, throttle: int = 0) -> Array:
    return Array(0, count - 1, throttle=throttle)


class Played:
    """Two nodes of four cpus (or as many as asked for), an admin and two users."""

    def __init__(self, nodes: int = 2, settings: HeadSettings | None = None) -> None:
        self.log = MemoryLog()
        self.now_ns = NOW_NS
        self.settings = settings
        self.core = Core(self.log, self.now_ns, settings)
        self.orders: list[tuple[NodeId, Order]] = []
        self.events: list[Any] = []
        self.numbers: dict[NodeId, int] = {}
        for name, role in (("root", Role.ADMIN), ("ada", Role.USER), ("ben", Role.USER)):
            self.do(AddAccount(name, role, name * 16, "site"))
        for number in range(1, nodes + 1):
            self.hello(f"node-{number}")

    # What is done.

    def do(self, *commands: Any) -> Any:
        """The answers of one turn (the answer, if there was one command). Raises the problem that was answered."""
        turn = self.core.turn([asked(self.core, command) for command in commands], self.now_ns)
        self.orders = turn.orders
        self.events += turn.events
        for answer in turn.answers:
            if isinstance(answer.problem, Problem):
                raise answer.problem
        values = [answer.value for answer in turn.answers]
        return values[0] if len(values) == 1 else values

    def later(self, seconds: float) -> None:
        self.now_ns += round(seconds * S_NS)
        self.do(Tick())

    def hello(self, node: str, boot: str = "b1", cpus: int = 4, ports: tuple[int, ...] = (), **labels: str) -> None:
        hello = Hello(
            1,
            NodeId(node),
            node,
            boot,
            Devices(cpus * 1000, 8 * GIB),
            {"sandbox": "process", **labels},
            "::1",
            "0",
            "3",
            ports,
        )
        self.do(NodeUp(hello))

    def beat(self, node: str, *running: str, gone: Sequence[tuple[str, Ended]] = (), boot: str = "b1") -> None:
        name = NodeId(node)
        number = self.numbers[name] = self.numbers.get(name, 0) + 1
        steps = tuple(Running(StepId(step), self.now_ns) for step in running)
        ends = tuple(Gone(StepId(step), ended) for step, ended in gone)
        self.do(Beat(name, boot, number, steps, ends))

    def beats(self, seconds: int, **running: Sequence[str]) -> None:
        """Every second, a beat of each node named (`node_1=…`)."""
        for _ in range(seconds):
            self.now_ns += S_NS
            for node, steps in running.items():
                self.beat(node.replace("_", "-"), *steps)

    def submit(self, *requests: Request, account: AccountId = ADA, key: str = "") -> tuple[JobId, ...]:
        return self.do(Submit(account, requests or (request(),), key))

    def started(self, node: str, step: str) -> None:
        self.do(Started(NodeId(node), StepId(step), self.now_ns))

    def exited(self, node: str, step: str, ended: Ended = GOOD) -> None:
        self.do(Exited(NodeId(node), StepId(step), ended))

    def restart(self) -> None:
        """Another head on the same log."""
        self.core = Core(self.log, self.now_ns, self.settings)

    # What is seen.

    def job(self, name: str = "job-1") -> Job:
        return self.core.site.jobs.by_id[JobId(name)]

    def task(self, name: str = "job-1", index: int = 0) -> Task:
        return self.job(name).tasks[index]

    def node(self, name: str = "node-1") -> Node:
        return self.core.site.nodes.by_id[NodeId(name)]

    def starts(self) -> list[str]:
        """The steps that the last turn ordered to start."""
        return [order.step.id for _, order in self.orders if isinstance(order, Start)]

    def stops(self) -> list[str]:
        return [order.step for _, order in self.orders if isinstance(order, Stop)]

    def forgets(self) -> list[str]:
        return [order.step for _, order in self.orders if isinstance(order, Forget)]

    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.events]
