"""Whatever is asked and reported, in whatever order: the log says the same as memory, and no word breaks the head."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mycelium.accounts.model import Role
from mycelium.accounts.rules import AddAccount, ReplaceToken
from mycelium.base.errors import Problem
from mycelium.base.ids import AccountId, NodeId, StepId
from mycelium.base.units import GIB, MIB, S_NS
from mycelium.engine.orders import Beat, Ended, Exited, Gone, Hello, Reason, Running, Start, Started
from mycelium.engine.seam import NodeDown, NodeUp
from mycelium.head.core import Core, HeadSettings, Tick
from mycelium.head.replay import replay, restore
from mycelium.jobs.commands import Cancel, StopAll, Submit
from mycelium.jobs.domain import Retention, index_of
from mycelium.jobs.index import Index
from mycelium.jobs.model import Array, Priority, Request
from mycelium.log import MemoryLog
from mycelium.nodes.model import Devices
from mycelium.nodes.rules import Drain, Remove, Return
from tests.asked import asked

START_NS = 1_700_000_000 * S_NS
nodes = st.sampled_from([NodeId(f"node-{number}") for number in range(1, 5)])
accounts = st.sampled_from([AccountId(f"account-{number}") for number in range(1, 5)])  # one of them does not exist
reasons = st.sampled_from(Reason)
arrays = st.none() | st.builds(
    lambda start, count, step, throttle: Array(start, start + count * step, step, throttle),
    st.integers(0, 5), st.integers(0, 5), st.integers(1, 3), st.integers(0, 2),
)  # fmt: skip
ends = st.builds(Ended, reason=reasons, exit_code=st.sampled_from([0, 0, 0, 1, 143]))


class Site3(RuleBasedStateMachine):
    """Three nodes, three accounts, and anything that may come to a head."""

    def __init__(self) -> None:
        super().__init__()
        self.log = MemoryLog()
        self.now_ns = START_NS
        self.settings = HeadSettings((Retention(60 * S_NS, 20),))
        self.core = Core(self.log, self.now_ns, self.settings)
        self.steps: list[tuple[NodeId, StepId]] = []  # every step that was ever ordered, and where
        self.beats = 0
        self.compared_seq = -1
        self.turn(AddAccount("root", Role.ADMIN, "a" * 64, "site"))
        self.turn(AddAccount("ada", Role.USER, "b" * 64, "root"))
        self.turn(AddAccount("ben", Role.USER, "c" * 64, "root", 3))
        for number in (1, 2, 3):
            self.hello(NodeId(f"node-{number}"), "b0")

    def turn(self, *commands: Any) -> Any:
        turn = self.core.turn([asked(self.core, command) for command in commands], self.now_ns)
        for node, order in turn.orders:
            if isinstance(order, Start):
                self.steps.append((node, order.step.id))
        return [answer.problem or answer.value for answer in turn.answers]

    def hello(self, node: NodeId, boot: str) -> None:
        number = int(node[5:])
        devices = Devices(2000 * number, 2 * GIB, number - 1)
        labels = {"sandbox": "process", "zone": "ab"[number % 2]}
        self.turn(NodeUp(Hello(1, node, f"n{number}", boot, devices, labels, "127.0.0.1", "0", "3")))

    @rule(seconds=st.sampled_from([0.001, 0.2, 1.5, 4, 20, 70]))
    def time_passes(self, seconds: float) -> None:
        self.now_ns += int(seconds * S_NS)
        self.turn(Tick())

    @rule(node=nodes, boot=st.sampled_from(["b0", "b1"]))
    def a_node_says_hello(self, node: NodeId, boot: str) -> None:
        self.hello(node, boot)

    @rule(node=nodes)
    def a_connection_ends(self, node: NodeId) -> None:
        self.turn(NodeDown(node, "reset"))

    @rule(
        account=accounts,
        key=st.sampled_from(["", "k1", "k2"]),
        count=st.integers(1, 2),
        array=arrays,
        gang=st.integers(1, 3),
        cpus=st.sampled_from([500, 1000, 4000]),
        retries=st.integers(0, 2),
        data=st.data(),
    )
    def somebody_submits(
        self, account: AccountId, key: str, count: int, array: Array | None, gang: int, cpus: int, retries: int,
        data: st.DataObject,
    ) -> None:  # fmt: skip
        known = sorted(self.core.site.jobs.by_id)
        after = tuple(data.draw(st.lists(st.sampled_from(known), max_size=2, unique=True))) if known else ()
        request = Request(
            command=("true",),
            name="x",
            needs=Devices(cpus, 64 * MIB),
            time_ms=60_000,
            nodes=1 if array else gang,
            array=array,
            after=after,
            inputs=after[:1],
            priority=data.draw(st.sampled_from(Priority)),
            on=data.draw(st.sampled_from([(), ("zone=a",)])),
            retries=retries,
        )
        first = self.turn(Submit(account, (request,) * count, key))[0]
        again = self.turn(Submit(account, (request,) * count, key))[0] if key else first
        assert isinstance(first, Problem) or first == again

    @precondition(lambda self: self.core.site.jobs.by_id)
    @rule(account=accounts, data=st.data())
    def somebody_cancels(self, account: AccountId, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(sorted(self.core.site.jobs.by_id)))
        self.turn(Cancel(account, job, data.draw(st.none() | st.integers(0, 6))))

    @rule(command=st.sampled_from([Drain, Return, Remove]), node=nodes)
    def somebody_looks_after_a_node(self, command: Any, node: NodeId) -> None:
        self.turn(command(node, "root"))

    @rule(node=nodes)
    def somebody_wants_a_node_empty_now(self, node: NodeId) -> None:
        self.turn(Drain(node, "root", now=True))

    @rule()
    def a_token_is_replaced(self) -> None:
        self.turn(ReplaceToken("ada", f"{self.beats:064x}", "root"))

    @rule(boot=st.sampled_from(["b0", "b1"]), node=nodes, data=st.data())
    def a_beat_says_anything(self, boot: str, node: NodeId, data: st.DataObject) -> None:
        """An honest beat of what is there, or one that invents, forgets and mixes up."""
        self.beats += data.draw(st.integers(-1, 2))
        here = [step for where, step in self.steps if where == node] + [StepId("job-9-a1-r0"), StepId("nonsense")]
        running = data.draw(st.lists(st.sampled_from(here), max_size=6, unique=True))
        gone = data.draw(st.lists(st.sampled_from(here), max_size=2, unique=True))
        self.turn(
            Beat(
                node,
                boot,
                self.beats,
                tuple(Running(step, data.draw(st.sampled_from([0, self.now_ns]))) for step in running),
                tuple(Gone(step, data.draw(ends)) for step in gone),
            )
        )

    @precondition(lambda self: self.steps)
    @rule(data=st.data(), ended=ends, where=st.none() | nodes)
    def a_step_ends(self, data: st.DataObject, ended: Ended, where: NodeId | None) -> None:
        node, step = data.draw(st.sampled_from(self.steps[-12:]))
        self.turn(Exited(where or node, step, ended))

    @precondition(lambda self: self.steps)
    @rule(data=st.data())
    def a_step_starts(self, data: st.DataObject) -> None:
        node, step = data.draw(st.sampled_from(self.steps[-12:]))
        self.turn(Started(node, step, self.now_ns - 5))

    @rule()
    def a_snapshot_is_kept(self) -> None:
        if self.log.last_seq:
            snapshot = self.core.take_snapshot()
            self.log.save_snapshot(snapshot.seq, snapshot.version, snapshot.data)

    @rule()
    def the_site_goes_down_and_up(self) -> None:
        self.turn(StopAll("root"))
        self.the_head_is_restarted()

    @rule()
    def the_head_is_restarted(self) -> None:
        self.core = Core(self.log, self.now_ns, self.settings)

    @invariant()
    def replay_equals_live_state(self) -> None:
        if self.log.last_seq == self.compared_seq:
            return
        self.compared_seq = self.log.last_seq
        living = self.core.codec.encode_state(self.core.site)
        full = replay(self.log.read(0))
        assert self.core.codec.encode_state(full) == living
        assert self.core.codec.encode_state(restore(self.log)[0]) == living
        anew = Index.of(full)
        for name in ("leases", "waiters", "takers", "queue"):
            assert getattr(index_of(self.core.view), name) == getattr(anew, name), name

    @invariant()
    def leases_fit_their_nodes(self) -> None:
        site = self.core.site
        for node, held in index_of(self.core.view).leases.items():
            used = Devices()
            for job, _ in held:
                used = used + site.jobs.by_id[job].request.needs
            assert site.nodes.by_id[node].devices.covers(used), node

    @invariant()
    def counts_are_what_they_count(self) -> None:
        for job in self.core.site.jobs.by_id.values():
            states = [task.state for task in job.tasks.values()]
            assert job.leased == sum(state in ("placed", "running", "stopping") for state in states)
            assert job.ended == sum(state in ("done", "failed", "cancelled") for state in states)
            assert sorted(job.again) == sorted(task.index for task in job.tasks.values() if task.state == "queued")
        for account in self.core.site.accounts.by_id.values():
            assert account.usage.rate_m >= 0
        if not index_of(self.core.view).leases:
            assert all(account.usage.rate_m == 0 for account in self.core.site.accounts.by_id.values())

    @invariant()
    def memory_of_steps_is_bounded_by_what_is_leased(self) -> None:
        leased = sum(len(held) for held in index_of(self.core.view).leases.values())
        assert len(self.core._mouth.seen_ns) <= leased
        assert len(self.core._mouth.missed) <= leased


TestReplay = Site3.TestCase
TestReplay.settings = settings(
    max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
