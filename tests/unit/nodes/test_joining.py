from __future__ import annotations

import pytest

from mycelium.base.errors import Conflict, Denied
from mycelium.base.ids import NodeId
from mycelium.base.units import GIB
from mycelium.nodes.events import NodeBack, NodeLost, NodeSuspected
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
