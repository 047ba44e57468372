"""Nodes as a domain: what the head knows of them by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mycelium.base.domain import Asked, Decided, Domain, Due, EventKind, Rule, View
from mycelium.base.errors import Denied, Problem, Unknown
from mycelium.base.subject import A_MACHINE, ADMIN, AN_OPERATOR, ANY_USER, MACHINE, OPERATOR, THE_SITE, Guard, Subject
from mycelium.base.units import S_NS
from mycelium.nodes import rules
from mycelium.nodes.events import NodeEvent, NodeForgotten
from mycelium.nodes.model import Nodes
from mycelium.nodes.plan import Patience, plan
from mycelium.nodes.story import SENTENCES
from mycelium.nodes.voices import Voices

LOOK_NS = S_NS // 20  # between two looks at all nodes for one that has fallen silent: it costs a microsecond each


def _other_machine(subject: Subject, view: View, command: Any) -> Problem | None:
    """A machine speaks for its own node alone."""
    if not subject.has(MACHINE):
        return None
    node = rules.of_machine(view.state.nodes, subject.key)
    if node is None:
        return Unknown("the site does not know this machine", hint="`myc join` asks to join")
    if node.id != command.node:
        return Denied(f"this machine is {node.id}")
    return None if node.approved else Denied(f"{node.id} is not approved")


OF_NODE = Guard("an operator, an admin, or the machine that it is", (OPERATOR, ADMIN, MACHINE), more=_other_machine)


def voices(view: View) -> Voices:
    return view.memory["nodes"]


def _apply(view: View, event: Any, at_ns: int) -> None:
    rules.apply(view.state.nodes, event, at_ns)


def _decide(view: View, asked: Asked, now_ns: int) -> Decided:
    """Answers with the node's id."""
    node = rules.find(view.state.nodes, asked.command.node)
    return rules.decide(asked.command, view.state.nodes), node.id


def _remove(view: View, asked: Asked, now_ns: int) -> Decided:
    happens, node = _decide(view, asked, now_ns)
    voices(view).left(node)
    return happens, node


def _ask(view: View, asked: Asked, now_ns: int) -> Decided:
    happens = rules.decide(asked.command, view.state.nodes)
    known = rules.of_machine(view.state.nodes, asked.command.machine)
    if known is not None and known.waiting:
        voices(view).asks(known.id, now_ns)
    return happens, happens[0].node if happens else known.id if known else None


def _join(view: View, asked: Asked, now_ns: int) -> Decided:
    return rules.decide(asked.command, view.state.nodes), asked.command.node


def _plan(view: View, due: Due) -> Iterable[NodeEvent]:
    known = voices(view)
    if due.now_ns - known.looked_ns < LOOK_NS:
        return ()
    known.looked_ns = due.now_ns
    happens = plan(view.state.nodes, known.heard, due.busy, due.now_ns, known.patience)
    for event in happens:
        if isinstance(event, NodeForgotten):
            known.forget(event.node)
    return happens


def _memory(state: Any, chosen: Patience, now_ns: int) -> Voices:
    return Voices(state.nodes.by_id, chosen, now_ns)


DOMAIN = Domain(
    name="nodes",
    tables=Nodes,
    kinds=tuple(EventKind(kind, _apply, says, ("node",)) for kind, says in SENTENCES.items()),
    commands={
        rules.Ask: Rule(_ask, A_MACHINE),
        rules.Join: Rule(_join, THE_SITE),
        rules.Approve: Rule(_decide, AN_OPERATOR),
        rules.Drain: Rule(_decide, OF_NODE),
        rules.Return: Rule(_decide, AN_OPERATOR),
        rules.Remove: Rule(_remove, OF_NODE),
    },
    memory=_memory,
    chooses=Patience,
    plan=_plan,
    looks={"nodes": ANY_USER, "invite a machine": AN_OPERATOR},
)
