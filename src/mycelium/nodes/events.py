"""What can happen to a node. Field names and meanings are for ever; see head/codec.py for how versions change."""

from __future__ import annotations

from msgspec import Struct

from mycelium.base.ids import NodeId
from mycelium.nodes.model import Devices


class NodeAsked(Struct, frozen=True):
    """A machine asks to be a node of the site, for the first time or after it was taken out."""

    node: NodeId
    machine: str  # the hash of the key that the machine shows, which is its identity for good
    name: str
    devices: Devices
    labels: dict[str, str]
    address: str
    approved: bool  # it needs nobody's word: it showed a one-time token, or left by itself
    invite: str = ""  # the one-time token that it showed; each lets one machine in


class NodeApproved(Struct, frozen=True):
    node: NodeId
    by: str


class NodeJoined(Struct, frozen=True):
    """A node appeared for the first time, or again with other devices, labels or address."""

    node: NodeId
    name: str
    devices: Devices
    labels: dict[str, str]
    address: str
    ports: tuple[int, ...] = ()  # that it holds for gangs


class NodeSuspected(Struct, frozen=True):
    node: NodeId
    why: str


class NodeLost(Struct, frozen=True):
    node: NodeId
    why: str


class NodeBack(Struct, frozen=True):
    """A suspect, lost or left node is heard again and runs nothing that it should not."""

    node: NodeId


class NodeDraining(Struct, frozen=True):
    node: NodeId
    by: str
    now: bool


class NodeDrained(Struct, frozen=True):
    node: NodeId


class NodeReturned(Struct, frozen=True):
    """A drain was ended by a person: the node takes work again."""

    node: NodeId
    by: str


class NodeLeft(Struct, frozen=True):
    """A node was taken out of the site."""

    node: NodeId
    by: str


class NodeForgotten(Struct, frozen=True):
    """A node that left is remembered no longer: its machine is a new one if it comes again."""

    node: NodeId


NodeEvent = (
    NodeAsked
    | NodeApproved
    | NodeJoined
    | NodeSuspected
    | NodeLost
    | NodeBack
    | NodeDraining
    | NodeDrained
    | NodeReturned
    | NodeLeft
    | NodeForgotten
)
