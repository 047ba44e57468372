"""What should happen to nodes next: who is suspect, who is lost, who is back, who is empty at last.

Unknown is not dead. Silence makes a node suspect first, and lost only after `lost_ns`; and no more nodes are given up
in a minute than the rate limit allows, so that a hiccup of the head or of the network never empties the site. A node of
which the engine knows that nothing runs any more is lost at once. A machine that asked to join and went silent is
declined after a while, and of the nodes that left only so many are remembered.
Never: reads a clock: when each node was heard last comes in as an argument.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from msgspec import Struct

from mycelium.base.ids import NodeId, number_of
from mycelium.base.limits import (
    EVICTIONS_PER_MINUTE,
    INVITE_S,
    NODE_ASKING_S,
    NODE_LOST_S,
    NODE_SUSPECT_S,
    NODES_LEFT_MAX,
)
from mycelium.base.units import S_NS, format_time_ms
from mycelium.nodes.events import (
    NodeBack,
    NodeDrained,
    NodeEvent,
    NodeForgotten,
    NodeLeft,
    NodeLost,
    NodeSuspected,
)
from mycelium.nodes.model import Nodes, NodeState

MINUTE_NS = 60 * S_NS


class Patience(Struct, frozen=True):
    """How long silence is borne."""

    suspect_ns: int = NODE_SUSPECT_S * S_NS
    lost_ns: int = NODE_LOST_S * S_NS
    asking_ns: int = NODE_ASKING_S * S_NS  # of a machine that waits to be approved


class Heard(Struct, frozen=True):
    """What is known of a node's voice, outside the log."""

    last_ns: int  # when it was heard last; for one never heard, when the head began to listen
    spoke: bool = False  # since the head began: what was suspect or lost before stays so until it is heard
    clean: bool = False  # its last beat named nothing that the head has given to somebody else
    gone: str = ""  # the engine's word that it cannot be reached, and why
    dead: bool = False  # ... and that nothing of it runs any more: there is nothing to wait for


def plan(
    nodes: Nodes, heard: Mapping[NodeId, Heard], busy: Collection[NodeId], now_ns: int, patience: Patience
) -> list[NodeEvent]:
    """The transitions that are due. `busy` are the nodes that hold a lease."""
    due: list[NodeEvent] = []
    budget = _evictions_left(nodes, now_ns)
    for node in nodes.by_id.values():
        voice = heard.get(node.id, Heard(last_ns=node.since_ns))
        silent_ns = now_ns - voice.last_ns
        match node.state:
            case NodeState.UP | NodeState.DRAINING | NodeState.DRAINED if voice.gone or silent_ns > patience.suspect_ns:
                due.append(NodeSuspected(node.id, voice.gone or _silence(silent_ns)))
            case NodeState.DRAINING if node.id not in busy:
                due.append(NodeDrained(node.id))
            case NodeState.SUSPECT if voice.spoke and not voice.gone and silent_ns <= patience.suspect_ns:
                due.append(NodeBack(node.id))
            case NodeState.SUSPECT if voice.dead:
                due.append(NodeLost(node.id, voice.gone))
            case NodeState.SUSPECT if silent_ns > patience.lost_ns and budget > 0:
                budget -= 1
                due.append(NodeLost(node.id, _silence(silent_ns)))
            case NodeState.LOST | NodeState.LEFT if _speaks_again(voice, node.since_ns, silent_ns, patience):
                due.append(NodeBack(node.id))
            case NodeState.JOINING if node.waiting and silent_ns > patience.asking_ns:
                due.append(NodeLeft(node.id, "site"))
            case _:
                pass
    return due + _to_forget(nodes, now_ns)


def _to_forget(nodes: Nodes, now_ns: int) -> list[NodeEvent]:
    """Of those that left the longest ago, and first of those that need somebody's word in any case.

    One that showed a one-time token stays while that token could be shown again: it lets one machine in.
    """
    left = [node for node in nodes.by_id.values() if node.state is NodeState.LEFT]
    surplus = len(left) - NODES_LEFT_MAX
    if surplus <= 0:
        return []
    spare = [node for node in left if not node.invite or now_ns - node.joined_ns > INVITE_S * S_NS]
    oldest = sorted(spare, key=lambda node: (node.approved, node.since_ns, number_of(node.id)))
    return [NodeForgotten(node.id) for node in oldest[:surplus]]


def _silence(silent_ns: int) -> str:
    return f"silent for {format_time_ms(silent_ns // 1_000_000)}"


def _speaks_again(voice: Heard, since_ns: int, silent_ns: int, patience: Patience) -> bool:
    """A word is not enough: only a beat tells that nothing of what was given to others still runs there."""
    heard = voice.spoke and voice.clean and voice.last_ns > since_ns
    return heard and not voice.gone and silent_ns <= patience.suspect_ns


def _evictions_left(nodes: Nodes, now_ns: int) -> int:
    allowed = max(EVICTIONS_PER_MINUTE, len(nodes.by_id) // 10)
    recent = sum(1 for at_ns in nodes.evicted_ns if now_ns - at_ns < MINUTE_NS)
    return max(0, allowed - recent)
