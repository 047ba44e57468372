"""The life of a node: what may happen to it, and what that changes.

`decide` turns a command into events or refuses, `apply` is the only thing that changes nodes.
Never: reads a clock, knows of jobs, or knows how a node is reached.
"""

from __future__ import annotations

from functools import singledispatch

from msgspec import Struct
from msgspec.structs import replace

from mycelium.base.errors import Conflict, Denied, Exhausted, Missing, Refused
from mycelium.base.ids import NodeId, is_node, node_id, number_of
from mycelium.base.limits import NAME_LENGTH_MAX, NODES_WAITING_MAX
from mycelium.nodes.events import (
    NodeApproved,
    NodeAsked,
    NodeBack,
    NodeDrained,
    NodeDraining,
    NodeEvent,
    NodeForgotten,
    NodeJoined,
    NodeLeft,
    NodeLost,
    NodeReturned,
    NodeSuspected,
)
from mycelium.nodes.model import Devices, Node, Nodes, NodeState

JOINING, UP, SUSPECT, LOST = NodeState.JOINING, NodeState.UP, NodeState.SUSPECT, NodeState.LOST
DRAINING, DRAINED, LEFT = NodeState.DRAINING, NodeState.DRAINED, NodeState.LEFT

# What each event makes of each state. A pair that is missing is refused by `decide` and ignored by `apply`.
NEXT: dict[tuple[NodeState, type], NodeState] = {
    (JOINING, NodeApproved): JOINING,  # until its agent says hello, which is `NodeJoined`
    (JOINING, NodeLeft): LEFT,  # it was declined
    (LEFT, NodeAsked): JOINING,
    (UP, NodeSuspected): SUSPECT,
    (DRAINING, NodeSuspected): SUSPECT,
    (DRAINED, NodeSuspected): SUSPECT,
    (SUSPECT, NodeLost): LOST,
    (SUSPECT, NodeBack): UP,  # or DRAINING, where somebody drains it: see `_back`
    (LOST, NodeBack): UP,
    (LEFT, NodeBack): UP,  # it was taken out by mistake, or comes again after a repair
    (UP, NodeDraining): DRAINING,
    (SUSPECT, NodeDraining): SUSPECT,  # remembered, and takes effect when it is back
    (LOST, NodeDraining): LOST,
    (DRAINING, NodeDraining): DRAINING,  # a second drain with --now hastens the first
    (DRAINING, NodeDrained): DRAINED,
    (DRAINING, NodeReturned): UP,
    (DRAINED, NodeReturned): UP,
    (SUSPECT, NodeReturned): SUSPECT,
    (LOST, NodeReturned): LOST,
    (DRAINED, NodeLeft): LEFT,
    (LOST, NodeLeft): LEFT,
}


class Ask(Struct, frozen=True):
    """A machine asks to be a node. `reserved`: the numbers up to this one belong to the head's own nodes."""

    machine: str
    name: str
    devices: Devices
    labels: dict[str, str]
    address: str
    approved: bool
    invite: str = ""
    reserved: int = 0


class Approve(Struct, frozen=True):
    node: str  # id or name
    by: str = ""


class Join(Struct, frozen=True):
    node: NodeId
    name: str
    devices: Devices
    labels: dict[str, str]
    address: str
    ports: tuple[int, ...] = ()


class Drain(Struct, frozen=True):
    node: str  # id or name
    by: str = ""
    now: bool = False


class Return(Struct, frozen=True):
    node: str  # id or name
    by: str = ""


class Remove(Struct, frozen=True):
    node: str  # id or name
    by: str = ""


NodeCommand = Ask | Approve | Join | Drain | Return | Remove


def find(nodes: Nodes, text: str) -> Node:
    """The node of that id or name. Errors: `Missing`; `Conflict` for the id of one that is the name of another."""
    numbered = nodes.by_id.get(NodeId(text)) if is_node(text) else None
    named = next((node for node in nodes.by_id.values() if node.name == text), None)
    if numbered and named and named is not numbered and named.state is not NodeState.LEFT:
        raise Conflict(
            f"{text} is the id of {numbered.name} and the name of {named.id}",
            hint="say the other word for the one you mean",
        )
    found = numbered or named
    if found is None:
        raise Missing(f"no node is called {text!r}", hint="`myc nodes` lists them")
    return found


@singledispatch
def decide(command: NodeCommand, nodes: Nodes) -> list[NodeEvent]:
    """The events that a person's or an agent's command leads to. Errors: `Refused`, `Missing`, `Conflict`."""
    raise TypeError(f"no rule for {type(command).__name__}")


def of_machine(nodes: Nodes, machine: str) -> Node | None:
    """The node that this machine is, or was."""
    return next((node for node in nodes.by_id.values() if node.machine == machine), None) if machine else None


@decide.register
def _(command: Ask, nodes: Nodes) -> list[NodeEvent]:
    known = of_machine(nodes, command.machine)
    if known is not None and known.state is not LEFT:
        return []
    users = [node for node in nodes.by_id.values() if command.invite and node.invite == command.invite]
    if users and users[0].machine != command.machine:
        raise Denied(f"this one-time token has let in {users[0].id}", hint="`myc node invite` makes another")
    check_name(nodes, command.name, known.id if known else None)
    approved = command.approved or (known is not None and known.approved)
    if not approved:
        _check_room(nodes)
    node = known.id if known else node_id(max(nodes.next_number, command.reserved + 1))
    return [
        NodeAsked(
            node,
            command.machine,
            command.name,
            command.devices,
            command.labels,
            command.address,
            approved,
            command.invite,
        )
    ]


def _check_room(nodes: Nodes) -> None:
    """Errors: `Exhausted` when as many wait for somebody's word as may."""
    waiting = sum(1 for node in nodes.by_id.values() if node.waiting)
    if waiting >= NODES_WAITING_MAX:
        raise Exhausted(
            f"{waiting} machines wait to be approved; at most {NODES_WAITING_MAX} may",
            hint="an admin lets one in with `myc node approve`, or sends one away with `myc node remove`",
        )


@decide.register
def _(command: Approve, nodes: Nodes) -> list[NodeEvent]:
    node = find(nodes, command.node)
    if node.approved:
        return []
    if node.state is not JOINING:
        raise Conflict(f"{node.id} is {node.state}: it does not ask to join", hint="`myc nodes` shows who does")
    return [NodeApproved(node.id, command.by)]


def check_name(nodes: Nodes, name: str, node: NodeId | None) -> None:
    """Errors: `Refused` for what is no name, `Conflict` for one that another node has."""
    if not 0 < len(name) <= NAME_LENGTH_MAX or not name.isprintable():
        raise Refused(f"a node's name has 1 to {NAME_LENGTH_MAX} printable characters", hint="give one with --name")
    others = (other for other in nodes.by_id.values() if other.id != node and other.state is not LEFT)
    if any(other.name == name for other in others):
        raise Conflict(f"another node is called {name!r}", hint="give this one another name with --name")


@decide.register
def _(command: Join, nodes: Nodes) -> list[NodeEvent]:
    known = nodes.by_id.get(command.node)
    if known is not None and known.machine and not known.approved:
        raise Denied(f"{known.id} is not approved", hint=f"`myc node approve {known.id}` lets it in")
    check_name(nodes, command.name, command.node)
    new = (
        known is None
        or known.state is JOINING
        or (known.devices, known.labels, known.address, known.name, known.ports)
        != (command.devices, command.labels, command.address, command.name, command.ports)
    )
    if not new:
        return []
    return [NodeJoined(command.node, command.name, command.devices, command.labels, command.address, command.ports)]


@decide.register
def _(command: Drain, nodes: Nodes) -> list[NodeEvent]:
    node = find(nodes, command.node)
    if node.draining and (node.evict or not command.now):
        return []
    return [_possible(node, NodeDraining(node.id, command.by, command.now))]


@decide.register
def _(command: Return, nodes: Nodes) -> list[NodeEvent]:
    node = find(nodes, command.node)
    if not node.draining:
        raise Conflict(f"{node.id} is {node.state}: it is not drained", hint="only a drained node can be resumed")
    return [_possible(node, NodeReturned(node.id, command.by))]


@decide.register
def _(command: Remove, nodes: Nodes) -> list[NodeEvent]:
    node = find(nodes, command.node)
    return [_possible(node, NodeLeft(node.id, command.by))]


def _possible(node: Node, event: NodeEvent) -> NodeEvent:
    if (node.state, type(event)) not in NEXT:
        raise Refused(f"{node.id} is {node.state}", hint="drain it first" if isinstance(event, NodeLeft) else "")
    return event


def apply(nodes: Nodes, event: NodeEvent, at_ns: int) -> None:
    """Change the nodes by one event. Never refuses: what is in the log has happened."""
    nodes.version += 1
    if isinstance(event, NodeJoined):
        _joined(nodes, event, at_ns)
        return
    if isinstance(event, NodeAsked):
        _asked(nodes, event, at_ns)
        return
    if isinstance(event, NodeForgotten):
        nodes.by_id.pop(event.node, None)
        return
    node = nodes.by_id.get(event.node)
    state = NEXT.get((node.state, type(event))) if node else None
    if node is None or state is None:
        return
    if isinstance(event, NodeBack):
        node = _back(node)
        state = node.state
    elif isinstance(event, NodeDraining):
        node = replace(node, drain_reason=event.by, evict=node.evict or event.now)
    elif isinstance(event, NodeReturned):
        node = replace(node, drain_reason="", evict=False)
    elif isinstance(event, NodeApproved):
        node = replace(node, approved=True)
    elif isinstance(event, NodeLeft):
        # A machine that left by itself may come again; one that was taken out needs somebody's word.
        node = replace(node, approved=node.approved and event.by == node.id)
    elif isinstance(event, NodeLost):
        node = replace(node, lost_count=node.lost_count + 1)
        nodes.evicted_ns = [*nodes.evicted_ns[-999:], at_ns]
    since_ns = node.since_ns if state is nodes.by_id[event.node].state else at_ns
    nodes.by_id[event.node] = replace(node, state=state, since_ns=since_ns)


def _joined(nodes: Nodes, event: NodeJoined, at_ns: int) -> None:
    known = nodes.by_id.get(event.node)
    if known is None:
        node = Node(
            event.node, event.name, event.devices, event.labels, UP, at_ns, at_ns, event.address, ports=event.ports
        )
        nodes.next_number = max(nodes.next_number, number_of(event.node) + 1)
    else:
        node = replace(
            known,
            name=event.name,
            devices=event.devices,
            labels=event.labels,
            address=event.address,
            ports=event.ports,
        )
    if node.state is JOINING:
        node = replace(node, state=UP, since_ns=at_ns, joined_ns=at_ns)
    nodes.by_id[event.node] = node


def _asked(nodes: Nodes, event: NodeAsked, at_ns: int) -> None:
    nodes.by_id[event.node] = Node(
        event.node,
        event.name,
        event.devices,
        event.labels,
        JOINING,
        at_ns,
        at_ns,
        event.address,
        machine=event.machine,
        approved=event.approved,
        invite=event.invite,
    )
    nodes.next_number = max(nodes.next_number, number_of(event.node) + 1)


def _back(node: Node) -> Node:
    if node.state is LEFT:
        return replace(node, state=UP, drain_reason="", evict=False)
    return replace(node, state=DRAINING if node.draining else UP)
