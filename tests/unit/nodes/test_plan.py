"""What should happen to nodes next."""

from __future__ import annotations

from mycelium.base.ids import NodeId
from mycelium.base.limits import EVICTIONS_PER_MINUTE
from mycelium.base.units import S_NS
from mycelium.nodes.model import Devices, Node, Nodes, NodeState
from mycelium.nodes.plan import Heard, Patience, plan

ONE = NodeId("node-1")
NOW_NS = 1_000 * S_NS
PATIENCE = Patience(3 * S_NS, 15 * S_NS)


def node(state: NodeState, number: int = 1, since_s: int = 100) -> Node:
    return Node(NodeId(f"node-{number}"), f"n{number}", Devices(1000), {}, state, NOW_NS - since_s * S_NS, 0)


def due(
    state: NodeState, silent_s: float, *, busy: bool = False, spoke: bool = True, clean: bool = True, gone: str = ""
):
    voice = Heard(NOW_NS - round(silent_s * S_NS), spoke, clean, gone)
    found = plan(Nodes({ONE: node(state)}), {ONE: voice}, {ONE} if busy else set(), NOW_NS, PATIENCE)
    return [type(event).__name__ for event in found]


def test_a_node_that_speaks_is_left_alone() -> None:
    assert due(NodeState.UP, 1) == due(NodeState.UP, 3) == []


def test_a_silent_node_is_suspect() -> None:
    for state in (NodeState.UP, NodeState.DRAINING, NodeState.DRAINED):
        assert due(state, 3.1, busy=True) == ["NodeSuspected"]


def test_a_broken_connection_makes_suspect_at_once() -> None:
    assert due(NodeState.UP, 0, gone="reset") == ["NodeSuspected"]


def test_a_suspect_node_is_back_with_a_word_and_lost_without_one() -> None:
    assert due(NodeState.SUSPECT, 1) == ["NodeBack"]
    assert due(NodeState.SUSPECT, 14) == []
    assert due(NodeState.SUSPECT, 16) == ["NodeLost"]


def test_a_suspect_node_with_a_broken_connection_is_not_back() -> None:
    assert due(NodeState.SUSPECT, 1, gone="reset") == []


def test_a_node_of_which_nothing_lives_is_lost_whatever_patience_and_the_rate_limit_say() -> None:
    nodes = Nodes({ONE: node(NodeState.SUSPECT)}, evicted_ns=[NOW_NS] * EVICTIONS_PER_MINUTE)
    voice = Heard(NOW_NS, gone="nothing of it runs", dead=True)
    assert [getattr(event, "why", None) for event in plan(nodes, {ONE: voice}, set(), NOW_NS, PATIENCE)] == [
        "nothing of it runs"
    ]


def test_a_lost_node_is_back_only_with_a_clean_beat() -> None:
    assert due(NodeState.LOST, 1) == ["NodeBack"]
    assert due(NodeState.LOST, 1, clean=False) == []
    assert due(NodeState.LOST, 5) == []


def test_what_was_heard_before_it_was_lost_does_not_count() -> None:
    nodes = Nodes({ONE: node(NodeState.LOST, since_s=1)})
    assert plan(nodes, {ONE: Heard(NOW_NS - 2 * S_NS, True, True)}, set(), NOW_NS, PATIENCE) == []


def test_a_head_that_has_just_begun_takes_nobody_for_back() -> None:
    assert due(NodeState.SUSPECT, 0, spoke=False) == due(NodeState.LOST, 0, spoke=False) == []


def test_a_draining_node_is_drained_when_empty() -> None:
    assert due(NodeState.DRAINING, 0, busy=True) == []
    assert due(NodeState.DRAINING, 0) == ["NodeDrained"]


def suspects(count: int, evicted_s_ago: list[int]) -> int:
    """How many of so many suspects are given up now."""
    nodes = Nodes({node(NodeState.SUSPECT, n).id: node(NodeState.SUSPECT, n) for n in range(1, count + 1)})
    nodes.evicted_ns = [NOW_NS - ago * S_NS for ago in evicted_s_ago]
    heard = {name: Heard(NOW_NS - 60 * S_NS, True) for name in nodes.by_id}
    return len(plan(nodes, heard, set(), NOW_NS, PATIENCE))


def test_few_nodes_are_given_up_in_a_minute() -> None:
    assert suspects(6, []) == EVICTIONS_PER_MINUTE
    assert suspects(6, [10]) == EVICTIONS_PER_MINUTE - 1
    assert suspects(6, [10, 20]) == 0
    assert suspects(6, [61, 70]) == EVICTIONS_PER_MINUTE


def test_a_large_site_may_give_up_a_tenth() -> None:
    assert suspects(100, []) == 10


def test_a_node_that_was_never_heard_counts_from_its_state() -> None:
    nodes = Nodes({ONE: node(NodeState.UP, since_s=4)})
    assert [type(event).__name__ for event in plan(nodes, {}, set(), NOW_NS, PATIENCE)] == ["NodeSuspected"]
