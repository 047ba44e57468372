from __future__ import annotations

import pytest

from mycelium.base.errors import Conflict, Denied, Exhausted
from mycelium.base.ids import NodeId
from mycelium.base.limits import INVITE_S, NODE_ASKING_S, NODES_LEFT_MAX, NODES_WAITING_MAX
from mycelium.base.units import GIB, S_NS
from mycelium.nodes.events import NodeBack, NodeForgotten, NodeLeft, NodeLost, NodeSuspected
from mycelium.nodes.model import Devices, Nodes, NodeState
from mycelium.nodes.plan import Heard, Patience, plan
from mycelium.nodes.rules import Approve, Ask, Drain, Join, NodeCommand, Remove, apply, decide, of_machine

HAS = Devices(4000, GIB)


def do(nodes: Nodes, command: NodeCommand) -> list[str]:
    happened = decide(command, nodes)
    for event in happened:
        apply(nodes, event, 10)
    return [type(event).__name__ for event in happened]


def asks(machine: str = "m1", name: str = "attic", *, approved: bool = False, invite: str = "") -> Ask:
    return Ask(machine, name, HAS, {"arch": "arm64"}, "10.0.0.2", approved, invite, reserved=1)


def hello(node: str = "node-2", name: str = "attic") -> Join:
    return Join(NodeId(node), name, HAS, {}, "10.0.0.2")


def approved_node() -> Nodes:
    nodes = Nodes()
    for command in (asks(), Approve("attic", "root"), hello()):
        do(nodes, command)
    return nodes


def test_a_machine_that_asks_waits_and_gets_no_work() -> None:
    nodes = Nodes()
    assert do(nodes, asks()) == ["NodeAsked"]
    node = nodes.by_id[NodeId("node-2")]  # node-1 is reserved for the head's own
    assert (node.state, node.open, node.present, node.approved) == (NodeState.JOINING, False, False, False)
    assert plan(nodes, {node.id: Heard(0)}, (), 10**12, Patience()) == []


def test_its_agent_is_not_heard_before_it_is_approved_and_is_up_after() -> None:
    nodes = Nodes()
    do(nodes, asks())
    with pytest.raises(Denied, match="node-2 is not approved"):
        do(nodes, hello())
    assert do(nodes, Approve("attic", "root")) == ["NodeApproved"]
    assert do(nodes, Approve("attic", "root")) == []
    do(nodes, hello())
    assert nodes.by_id[NodeId("node-2")].open


def test_asking_again_is_nothing_new_and_the_same_machine_stays_the_same_node() -> None:
    nodes = approved_node()
    assert do(nodes, asks()) == []
    found = of_machine(nodes, "m1")
    assert found is not None
    assert found.id == "node-2"


def test_a_one_time_token_lets_one_machine_in_without_approval_and_no_second() -> None:
    nodes = Nodes()
    do(nodes, asks(approved=True, invite="i1"))
    do(nodes, hello())
    assert nodes.by_id[NodeId("node-2")].open
    with pytest.raises(Denied, match="has let in node-2"):
        do(nodes, asks("m2", "barn", approved=True, invite="i1"))


def test_two_machines_of_one_name_are_refused() -> None:
    nodes = Nodes()
    do(nodes, asks())
    with pytest.raises(Conflict, match="another node is called 'attic'"):
        do(nodes, asks("m2"))


def test_a_machine_that_left_by_itself_comes_again_without_a_word() -> None:
    nodes = approved_node()
    do(nodes, Drain("attic", "node-2"))
    for event in plan(nodes, {NodeId("node-2"): Heard(10, spoke=True, clean=True)}, (), 11, Patience()):
        apply(nodes, event, 11)
    assert do(nodes, Remove("attic", "node-2")) == ["NodeLeft"]
    assert do(nodes, asks()) == ["NodeAsked"]
    do(nodes, hello())
    assert nodes.by_id[NodeId("node-2")].open


def test_a_machine_that_somebody_took_out_needs_to_be_approved_again() -> None:
    nodes = approved_node()
    for event in (NodeSuspected(NodeId("node-2"), "silent"), NodeLost(NodeId("node-2"), "silent")):
        apply(nodes, event, 20)
    do(nodes, Remove("attic", "root"))
    with pytest.raises(Denied):
        do(nodes, hello())
    do(nodes, asks())
    assert nodes.by_id[NodeId("node-2")].state is NodeState.JOINING
    assert not nodes.by_id[NodeId("node-2")].approved
    apply(nodes, NodeBack(NodeId("node-2")), 30)
    assert nodes.by_id[NodeId("node-2")].state is NodeState.JOINING


# Bounds: who has the site's token can make up any number of machines.

ASKING_NS = NODE_ASKING_S * S_NS


def crowd(count: int, *, approved: bool = False, invite: str = "") -> Nodes:
    nodes = Nodes()
    for number in range(count):
        used = f"{invite}{number}" if invite else ""
        do(nodes, asks(f"m{number}", f"name-{number}", approved=approved, invite=used))
    return nodes


def test_only_so_many_machines_may_wait_for_approval() -> None:
    nodes = crowd(NODES_WAITING_MAX)
    with pytest.raises(Exhausted, match=f"{NODES_WAITING_MAX} machines wait to be approved"):
        do(nodes, asks("one-more", "one-more"))
    assert do(nodes, asks("m0", "name-0")) == []  # one that waits already may ask again
    assert do(nodes, asks("invited", "invited", approved=True, invite="i1")) == ["NodeAsked"]
    do(nodes, Remove("name-0", "root"))
    assert do(nodes, asks("one-more", "one-more")) == ["NodeAsked"]


def test_a_machine_that_was_taken_out_counts_like_any_other_when_it_asks_again() -> None:
    nodes = crowd(NODES_WAITING_MAX)
    do(nodes, Remove("name-0", "root"))
    do(nodes, asks("one-more", "one-more"))
    with pytest.raises(Exhausted):
        do(nodes, asks("m0", "name-0"))


def test_a_machine_that_asks_no_more_is_declined_by_the_site_and_may_ask_again() -> None:
    nodes = crowd(2)
    silent, asking = NodeId("node-2"), NodeId("node-3")
    heard = {silent: Heard(10), asking: Heard(10 + ASKING_NS)}
    assert plan(nodes, heard, (), 10 + ASKING_NS, Patience()) == []
    due = plan(nodes, heard, (), 11 + ASKING_NS, Patience())
    assert [(type(event).__name__, event.node) for event in due] == [("NodeLeft", silent)]
    apply(nodes, due[0], 20)
    assert nodes.by_id[silent].state is NodeState.LEFT
    assert do(nodes, asks("m0", "name-0")) == ["NodeAsked"]
    assert not nodes.by_id[silent].approved


def test_an_approved_machine_is_waited_for_however_long_it_takes() -> None:
    nodes = crowd(1)
    do(nodes, Approve("name-0", "root"))
    assert plan(nodes, {}, (), 10 * ASKING_NS, Patience()) == []


def test_of_the_nodes_that_left_only_so_many_are_remembered() -> None:
    nodes = Nodes()
    for number in range(NODES_LEFT_MAX + 2):
        do(nodes, asks(f"m{number}", f"name-{number}"))
        do(nodes, Remove(f"name-{number}", "root"))
    due = plan(nodes, {}, (), 10, Patience())
    assert [(type(event).__name__, event.node) for event in due] == [
        ("NodeForgotten", "node-2"), ("NodeForgotten", "node-3"),
    ]  # fmt: skip
    for event in due:
        apply(nodes, event, 20)
    assert len(nodes.by_id) == NODES_LEFT_MAX
    assert plan(nodes, {}, (), 10, Patience()) == []
    assert do(nodes, asks("m0", "name-0")) == ["NodeAsked"]  # as a new one: its number was given out
    found = of_machine(nodes, "m0")
    assert found is not None
    assert found.id == f"node-{NODES_LEFT_MAX + 4}"


def test_a_node_that_may_come_again_without_a_word_is_forgotten_last() -> None:
    nodes = crowd(NODES_LEFT_MAX + 1, approved=True)
    for node in list(nodes.by_id.values()):
        apply(nodes, NodeLeft(node.id, "root" if node.id == "node-500" else node.id), 20)
    (due,) = plan(nodes, {}, (), 30, Patience())
    assert due == NodeForgotten(NodeId("node-500"))


def test_a_one_time_token_is_remembered_while_it_could_be_shown_again() -> None:
    nodes = crowd(NODES_LEFT_MAX + 1, approved=True, invite="i")
    for node in list(nodes.by_id.values()):
        apply(nodes, NodeLeft(node.id, "root"), 20)
    assert plan(nodes, {}, (), 10 + INVITE_S * S_NS, Patience()) == []
    assert len(plan(nodes, {}, (), 11 + INVITE_S * S_NS, Patience())) == 1
