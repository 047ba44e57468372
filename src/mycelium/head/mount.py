"""Puts domains together: one state, one index of events and commands, one order of reactions.

What could not work is refused here, before anything is read: two domains that know one name, and a circle of reactions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

import msgspec

from mycelium.base.domain import Apply, Archived, Domain, EventKind, Events, Needs, Rule, Show, View
from mycelium.base.subject import Guard

React = Callable[[View, Any, int], Events]


class Clash(Exception):
    """These domains cannot live in one house."""


class Mounted:
    """All domains as one."""

    def __init__(self, domains: Sequence[Domain], looks: Mapping[str, Guard]) -> None:
        self.domains = tuple(domains)
        self.State = _state_type(domains)
        self.kinds: dict[type, EventKind] = _merged(
            domains, "the event", lambda d: {kind.type: kind for kind in d.kinds}
        )
        self.rules: dict[type, Rule] = _merged(domains, "the command", lambda d: d.commands)
        self.shows: dict[str, Show] = _merged(domains, "the view", lambda d: d.shows)
        self.looks: dict[str, Guard] = {**looks, **_merged(domains, "the look", lambda d: d.looks)}
        self.reacts: dict[type, tuple[React, ...]] = _listed(domains, lambda d: d.reacts)
        self.follows: dict[type, tuple[Apply, ...]] = _listed(domains, lambda d: d.follows)
        _check_names(self.kinds, "event")
        _check_names(self.rules, "command")
        _check_reactions(domains, self)

    def state(self) -> Any:
        """That of a site to which nothing has happened yet."""
        return self.State()

    def view(self, state: Any, chosen: Sequence[Any] = (), now_ns: int = 0) -> View:
        """A view of a state, with every domain's index made anew. Memories begin empty."""
        derived = {d.name: d.index(state) for d in self.domains if d.index}
        memory = {d.name: d.memory(state, _chosen(d, chosen), now_ns) for d in self.domains if d.memory}
        return View(state, derived, memory)

    def apply(self, view: View, event: object, at_ns: int) -> None:
        """Change the state by one event. An event that no domain knows is an error, and never passed over."""
        kind = self.kinds.get(type(event))
        if kind is None:
            raise TypeError(f"no domain knows the event {type(event).__name__}")
        kind.apply(view, event, at_ns)
        for follow in self.follows.get(type(event), ()):
            follow(view, event, at_ns)

    def busy(self, view: View) -> Any:
        """The nodes that somebody's work holds."""
        held = [domain.holds(view) for domain in self.domains if domain.holds]
        return held[0] if len(held) == 1 else set[Any]().union(*held)

    def archives(self, view: View, event: object) -> Archived | None:
        found = (domain.archives(view, event) for domain in self.domains if domain.archives)
        return next((one for one in found if one is not None), None)

    def needs(self, state: Any) -> Needs:
        """The objects that anything in the state refers to."""
        needs = Needs(set(), set())
        for domain in self.domains:
            if domain.needs:
                more = domain.needs(state)
                needs.trees.update(more.trees)
                needs.plain.update(more.plain)
        return needs


def mount(domains: Sequence[Domain], looks: Mapping[str, Guard] | None = None) -> Mounted:
    """`looks`: what is looked at of the house as a whole. Errors: `Clash`."""
    return Mounted(domains, looks or {})


def _chosen(domain: Domain, chosen: Sequence[Any]) -> Any:
    if domain.chooses is None:
        return None
    return next((one for one in chosen if isinstance(one, domain.chooses)), None) or domain.chooses()


def _state_type(domains: Sequence[Domain]) -> type:
    names = [domain.name for domain in domains]
    if len(set(names)) < len(names):
        raise Clash(f"two domains have one name: {', '.join(sorted(names))}")
    fields = [(d.name, d.tables, msgspec.field(default_factory=d.tables)) for d in domains]
    return msgspec.defstruct("State", fields)


def _merged(domains: Sequence[Domain], what: str, of: Callable[[Domain], Mapping[Any, Any]]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for domain in domains:
        for key, value in of(domain).items():
            if key in found:
                raise Clash(f"{what} {getattr(key, '__name__', key)!r} of {domain.name} is another domain's already")
            found[key] = value
    return found


def _listed(domains: Sequence[Domain], of: Callable[[Domain], Mapping[type, Any]]) -> dict[type, tuple[Any, ...]]:
    found: dict[type, tuple[Any, ...]] = {}
    for domain in domains:
        for key, value in of(domain).items():
            found[key] = (*found.get(key, ()), value)
    return found


def _check_names(types: Mapping[type, Any], what: str) -> None:
    """The log and the doors know them by name alone."""
    seen: dict[str, type] = {}
    for one in types:
        if seen.setdefault(one.__name__, one) is not one:
            raise Clash(f"two domains have an {what} that is called {one.__name__!r}")


def _check_reactions(domains: Sequence[Domain], mounted: Mounted) -> None:
    """Whoever reacts comes after whose event it is: then reactions end."""
    home = {kind.type: domain.name for domain in domains for kind in domain.kinds}
    after: dict[str, set[str]] = {domain.name: set() for domain in domains}
    for domain in domains:
        for kind in domain.reacts:
            if kind not in home:
                raise Clash(f"{domain.name} reacts to {kind.__name__}, which no domain has")
            if home[kind] == domain.name:
                raise Clash(f"{domain.name} reacts to its own event {kind.__name__}")
            after[domain.name].add(home[kind])
    try:
        TopologicalSorter(after).prepare()
    except CycleError as error:
        raise Clash(f"reactions go round in a circle: {' -> '.join(error.args[1])}") from None


def owned_by(mounted: Mounted) -> Iterator[tuple[str, EventKind]]:
    """Every kind of event with the name of its domain."""
    for domain in mounted.domains:
        for kind in domain.kinds:
            yield domain.name, kind
