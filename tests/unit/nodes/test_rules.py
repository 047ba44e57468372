"""The life of a node."""

from __future__ import annotations

import pytest

from mycelium.base.errors import Conflict, Missing, Refused
from mycelium.base.ids import NodeId
from mycelium.nodes.events import NodeBack, NodeDrained, NodeLost, NodeSuspected
from mycelium.nodes.model import Devices, Node, Nodes, NodeState
from mycelium.nodes.rules import NEXT, Drain, Join, Remove, Return, apply, decide, find

ONE, TWO = NodeId("node-1"), NodeId("node-2")
SMALL, LARGE = Devices(1000, 1 << 30), Devices(8000, 8 << 30, 1)


def joined(*names: str) -> Nodes:
    nodes = Nodes()
    for number, name in enumerate(names, start=1):
        do(nodes, Join(NodeId(f"node-{number}"), name, SMALL, {}, "::1"))
    return nodes


def do(nodes: Nodes, command: object, at_ns: int = 10) -> list[str]:
    decided = decide(command, nodes)  # pyright: ignore[reportArgumentType]
    for event in decided:
        apply(nodes, event, at_ns)
    return [type(event).__name__ for event in decided]


def in_state(state: NodeState) -> Nodes:
    nodes = joined("a")
    node = nodes.by_id[ONE]
    reason = "root" if state in (NodeState.DRAINING, NodeState.DRAINED) else ""
    nodes.by_id[ONE] = Node(node.id, node.name, node.devices, {}, state, 5, 5, drain_reason=reason)
    return nodes


def test_a_new_node_is_up() -> None:
    nodes = joined("a")
    assert nodes.by_id[ONE].state is NodeState.UP
    assert nodes.next_number == 2


def test_a_node_that_says_the_same_again_changes_nothing() -> None:
    nodes = joined("a")
    assert do(nodes, Join(ONE, "a", SMALL, {}, "::1")) == []


def test_a_node_that_grew_keeps_its_state() -> None:
    nodes = in_state(NodeState.DRAINING)
    assert do(nodes, Join(ONE, "a", LARGE, {"gpu": "yes"}, "::1")) == ["NodeJoined"]
    node = nodes.by_id[ONE]
    assert (node.devices, node.labels, node.state) == (LARGE, {"gpu": "yes"}, NodeState.DRAINING)


def test_two_nodes_cannot_have_one_name() -> None:
    nodes = joined("a", "b")
    with pytest.raises(Conflict):
        do(nodes, Join(NodeId("node-3"), "a", SMALL, {}, "::1"))
    with pytest.raises(Conflict):
        do(nodes, Join(TWO, "a", SMALL, {}, "::1"))


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[31m", "n" * 129])
def test_what_people_cannot_read_is_no_name(name: str) -> None:
    with pytest.raises(Refused):
        do(joined("a"), Join(ONE, name, SMALL, {}, "::1"))


def test_a_node_is_found_by_its_name_and_by_its_id() -> None:
    nodes = joined("a", "b")
    assert find(nodes, "b").id == find(nodes, "node-2").id == TWO
    with pytest.raises(Missing):
        find(nodes, "c")


def test_the_id_of_one_that_is_the_name_of_another_is_neither() -> None:
    nodes = joined("attic", "node-1")
    with pytest.raises(Conflict, match="id of attic and the name of node-2"):
        find(nodes, "node-1")
    assert find(nodes, "node-2").name == "node-1"


def test_a_drain_is_said_once_and_hastened_once() -> None:
    nodes = joined("a")
    assert do(nodes, Drain("a", "root")) == ["NodeDraining"]
    assert do(nodes, Drain("a", "root")) == []
    assert do(nodes, Drain("a", "root", now=True)) == ["NodeDraining"]
    assert do(nodes, Drain("a", "root", now=True)) == []
    assert nodes.by_id[ONE].evict


def test_only_a_drained_node_is_returned() -> None:
    nodes = joined("a")
    with pytest.raises(Conflict):
        do(nodes, Return("a", "root"))
    do(nodes, Drain("a", "root"))
    apply(nodes, NodeDrained(ONE), 20)
    assert nodes.by_id[ONE].state is NodeState.DRAINED
    do(nodes, Return("a", "root"))
    assert nodes.by_id[ONE].open


def test_a_drain_outlives_a_silence() -> None:
    nodes = joined("a")
    do(nodes, Drain("a", "root"))
    apply(nodes, NodeSuspected(ONE, "silent"), 20)
    apply(nodes, NodeBack(ONE), 30)
    assert nodes.by_id[ONE].state is NodeState.DRAINING


def test_a_drain_that_ends_during_a_silence_leaves_the_node_open_when_it_is_back() -> None:
    nodes = joined("a")
    do(nodes, Drain("a", "root"))
    apply(nodes, NodeSuspected(ONE, "silent"), 20)
    do(nodes, Return("a", "root"))
    assert not nodes.by_id[ONE].open
    apply(nodes, NodeBack(ONE), 30)
    assert nodes.by_id[ONE].open


def test_a_lost_node_is_counted_and_its_moment_kept() -> None:
    nodes = joined("a")
    apply(nodes, NodeSuspected(ONE, "silent"), 20)
    apply(nodes, NodeLost(ONE, "silent"), 30)
    assert (nodes.by_id[ONE].lost_count, nodes.evicted_ns) == (1, [30])


@pytest.mark.parametrize("state", [NodeState.UP, NodeState.SUSPECT, NodeState.DRAINING])
def test_a_node_that_may_hold_work_is_not_taken_out(state: NodeState) -> None:
    with pytest.raises(Refused):
        do(in_state(state), Remove("a", "root"))


@pytest.mark.parametrize("state", [NodeState.DRAINED, NodeState.LOST])
def test_an_empty_node_is_taken_out_and_comes_back_without_its_drain(state: NodeState) -> None:
    nodes = in_state(state)
    assert do(nodes, Remove("a", "root")) == ["NodeLeft"]
    apply(nodes, NodeBack(ONE), 40)
    assert nodes.by_id[ONE].open


WORDS = {"why": "silent", "by": "root", "now": False}  # what events say beside the node's name
PLAIN = sorted(
    {kind for _, kind in NEXT if kind is not NodeBack and set(kind.__struct_fields__) <= {"node", *WORDS}},
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("state", NodeState)
@pytest.mark.parametrize("kind", PLAIN)
def test_apply_follows_the_table_and_ignores_the_rest(state: NodeState, kind: type) -> None:
    nodes = in_state(state)
    words = {name: WORDS[name] for name in kind.__struct_fields__ if name in WORDS}
    apply(nodes, kind(ONE, **words), 99)
    assert nodes.by_id[ONE].state is NEXT.get((state, kind), state)


def test_an_event_of_an_unknown_node_is_ignored() -> None:
    nodes = joined("a")
    apply(nodes, NodeBack(TWO), 20)
    assert set(nodes.by_id) == {ONE}


def test_the_state_is_as_old_as_its_last_change() -> None:
    nodes = joined("a")
    do(nodes, Drain("a", "root"), at_ns=20)
    do(nodes, Drain("a", "root", now=True), at_ns=30)
    assert nodes.by_id[ONE].since_ns == 20
