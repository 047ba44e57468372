"""What a domain is to the head: a value that says its tables, events, commands, guards, reactions, plan and views.

From the tuple of all domains (head/domains.py) follow the state, the codec, deciding, applying, snapshots, stories, the
sweep and the books of the simulator: to mount one is one word there.

```
decide(view, asked, now_ns) -> (events, answer)     or one of the six errors; nothing has changed then
apply(view, event, at_ns)                           the only thing that changes tables; never refuses
react(view, event, now_ns) -> events of mine        to somebody else's event, in the same turn and transaction
plan(view, due) -> events                           what the site itself finds due
```
Events may come from a generator: each is applied before the next one is asked for. Who yields must not refuse.
Never: does I/O, reads a clock, or knows a domain by name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from msgspec import Struct

from mycelium.base.ids import Digest, NodeId
from mycelium.base.subject import Guard, Subject


class View(NamedTuple):
    """What rules see. `state` has one table a domain; `derived` and `memory` hold what each keeps beside its own.

    What is derived follows from the state and is made anew at the start. A memory is of what is in no event: it is
    forgotten when a head dies, and told again.
    """

    state: Any
    derived: dict[str, Any]
    memory: dict[str, Any]


class Asked(NamedTuple):
    """A command, and who asks it. The head enters the subject where a command has a field `by` or `account`."""

    subject: Subject
    command: Any


class Due(NamedTuple):
    """When a plan is asked. `happened`: something in this turn; `closing`: the site goes down and begins nothing new;
    `busy`: the nodes that some domain's work holds."""

    now_ns: int
    happened: bool
    closing: bool
    busy: Collection[NodeId]


Events = Iterable[Any]
Decided = tuple[Events, Any]
Apply = Callable[[View, Any, int], None]
Document = dict[str, Any]
Lift = Callable[[Document], Document]


class EventKind(NamedTuple):
    """A kind of event. `about` names the fields that say whom it concerns, the first of them first.

    `lifts` turn a document of version 1 into one of version 2, and so on: its version is one more than they are.
    """

    type: type
    apply: Apply
    says: Callable[[Any], str]
    about: tuple[str, ...]
    lifts: tuple[Lift, ...] = ()

    @property
    def version(self) -> int:
        return len(self.lifts) + 1


class Rule(NamedTuple):
    """What a command leads to, and who may ask it. `adds`: it begins new work, which a full or a closing site refuses;
    `closes`: from then on the site begins nothing new.

    `door`: where HTTP asks it by itself (`POST` there; the document has the command's fields).
    """

    decide: Callable[[View, Asked, int], Decided]
    guard: Guard
    adds: bool = False
    closes: bool = False
    door: str = ""


class Show(NamedTuple):
    """A view for every door: HTTP has it at its path, `myc show` under its name. Words in braces are arguments."""

    says: str
    view: Callable[..., Document]  # (view, subject, now_ns, **arguments)
    guard: Guard


class Archived(NamedTuple):
    """A record that leaves the state for the archive."""

    name: str
    number: int
    account: str
    record: Any


class Needs(NamedTuple):
    """Objects that must be kept: trees (with all that they name) and plain ones."""

    trees: set[Digest]
    plain: set[Digest]


@dataclass(frozen=True)
class Domain:
    """See the fields' own types. `index` and `memory` make what the view holds under the domain's name.

    `follows`: what an event of a domain below changes in my index. `lifts` turn my tables, as an earlier schema wrote
    them into a snapshot, into today's: by the fingerprint of that schema. `looks` guard what is only read.
    `chooses` is what a site's owner may set; `memory` is given it. `holds` are the nodes that my work is on. `archives`
    is asked before an event is applied whether something leaves the state with it.
    """

    name: str
    tables: type[Struct]
    kinds: tuple[EventKind, ...]
    commands: Mapping[type, Rule]
    index: Callable[[Any], Any] | None = None
    follows: Mapping[type, Apply] = field(default_factory=dict[type, Apply])
    memory: Callable[[Any, Any, int], Any] | None = None  # (state, what was chosen, now_ns)
    chooses: type | None = None
    reacts: Mapping[type, Callable[[View, Any, int], Events]] = field(default_factory=dict[type, Any])
    plan: Callable[[View, Due], Events] | None = None
    holds: Callable[[View], Collection[NodeId]] | None = None
    archives: Callable[[View, Any], Archived | None] | None = None
    needs: Callable[[Any], Needs] | None = None
    shows: Mapping[str, Show] = field(default_factory=dict[str, Show])
    looks: Mapping[str, Guard] = field(default_factory=dict[str, Guard])
    lifts: Mapping[str, Lift] = field(default_factory=dict[str, Lift])
