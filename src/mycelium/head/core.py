"""The head without its clock, sockets and threads: decide, commit, apply, react, plan, and the orders that follow.

`Core.turn` takes a batch of commands and the time, and answers with what to tell each caller and each node. The loop
(loop.py) gives it real ones; the simulator gives it pretended ones: both run this very code. What it decides about is
in the domains (domains.py); what agents say is heard in ear.py, and what they are told is said in mouth.py.

The log is the truth, memory is not: the events of a turn are applied as they are decided, so that later commands of the
batch see them, and nobody is answered before the one transaction that holds them all is durable. When that fails, the
turn raises, and the process must end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from mycelium.base.domain import Asked, Due, Rule, View
from mycelium.base.errors import Problem, Unavailable
from mycelium.base.ids import NodeId
from mycelium.base.limits import GRACE_MS, SNAPSHOT_EVENTS
from mycelium.base.subject import THE_SITE, Subject
from mycelium.base.units import S_NS
from mycelium.engine.orders import Order
from mycelium.head.codec import SNAPSHOT_VERSION, Codec
from mycelium.head.domains import mounted
from mycelium.head.ear import HEARS, Ear
from mycelium.head.mount import Mounted
from mycelium.head.mouth import Mouth
from mycelium.head.replay import restore
from mycelium.log import ArchivedJob, Log, Snapshot
from mycelium.nodes.domain import voices

STALL_NS = 2 * S_NS  # a longer pause between two turns is the head's own, and no node pays for it


class Tick(Struct, frozen=True):
    """Time has passed: look whether something is due."""


class Answer(Struct, frozen=True):
    """What to tell the caller of one command: a value, or the problem."""

    value: Any = None
    problem: Problem | None = None


class Turn(Struct):
    """What one turn led to."""

    answers: list[Answer] = field(default_factory=list)
    orders: list[tuple[NodeId, Order]] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)
    archived: list[ArchivedJob] = field(default_factory=list)
    last_seq: int = 0


class HeadSettings(Struct, frozen=True):
    """What a site's owner may choose of the head's behaviour. `chosen`: of domains, a record of each one's own."""

    chosen: tuple[Any, ...] = ()
    snapshot_events: int = SNAPSHOT_EVENTS
    grace_ms: int = GRACE_MS


class Core:
    """The state of a site and the only code that changes it."""

    def __init__(
        self, log: Log, now_ns: int, settings: HeadSettings | None = None, house: Mounted | None = None
    ) -> None:
        self.log = log
        self.settings = settings or HeadSettings()
        self.house = house or mounted()
        self.codec = Codec(self.house)
        state, self._snapshot_seq = restore(log, self.house)
        self.view: View = self.house.view(state, self.settings.chosen, now_ns)
        self.refusing = ""  # why nothing new is accepted (a full disk); set from outside
        self._turn = Turn()
        self._now_ns = now_ns
        self._closing = False
        self._mouth = Mouth(self.view, self.settings.grace_ms)
        self._ear = Ear(self.view, self._mouth, self.emit)

    @property
    def site(self) -> Any:
        """The state: one table a domain."""
        return self.view.state

    def turn(self, commands: Sequence[Asked], now_ns: int) -> Turn:
        """Decide all commands in order, see what is due, commit once, and say what follows.

        Errors: `Unavailable` when the log cannot be written: nothing of the turn has happened, and memory is void.
        """
        turn = self._turn = Turn()
        if now_ns - self._now_ns > STALL_NS:
            voices(self.view).forgive(now_ns - self._now_ns)
        self._now_ns = now_ns
        self._mouth.begin(turn.orders, now_ns)
        for asked in commands:
            turn.answers.append(self._answer(asked))
        self._plan(now_ns)
        if turn.events:
            encoded = [self.codec.encode(event) for event in turn.events]
            about = [self.codec.about(event) for event in turn.events]
            turn.last_seq = self.log.append(now_ns, encoded, turn.archived, about)
            for event in turn.events:
                self._mouth.act(event)
        return turn

    def look(self, name: str, subject: Subject, at: Any = None) -> None:
        """Errors: `Unknown`, `Denied` for who may not look at it."""
        self.house.looks[name].check(subject, self.view, at)

    def snapshot_due(self) -> bool:
        return self.log.last_seq - self._snapshot_seq >= self.settings.snapshot_events

    def take_snapshot(self) -> Snapshot:
        """The state as it is now, to be kept beside the log: the next start replays only what came after."""
        self._snapshot_seq = self.log.last_seq
        return Snapshot(self.log.last_seq, SNAPSHOT_VERSION, self.codec.encode_state(self.site))

    def _plan(self, now_ns: int) -> None:
        """What the site itself finds due: one domain after the other, so that each sees what came before."""
        for domain in self.house.domains:
            if domain.plan is not None:
                due = Due(now_ns, bool(self._turn.events), self._closing, self.house.busy(self.view))
                self.emit(domain.plan(self.view, due))

    # Deciding.

    def _answer(self, asked: Asked) -> Answer:
        try:
            return Answer(self._decide(asked))
        except Problem as problem:
            return Answer(problem=problem)

    def _decide(self, asked: Asked) -> Any:
        command: object = asked.command
        kind = type(command)
        rule = self.house.rules.get(kind)
        if rule is None:
            THE_SITE.check(asked.subject, self.view, asked.command)
            if kind is not Tick:
                HEARS[kind](self._ear, asked.command, self._now_ns)
            return None
        rule.guard.check(asked.subject, self.view, asked.command)
        self._check_open(rule)
        if rule.closes:
            self._closing = True
        events, answer = rule.decide(self.view, _entered(asked), self._now_ns)
        self.emit(events)
        return answer

    def _check_open(self, rule: Rule) -> None:
        if rule.adds and self._closing:
            raise Unavailable("the site is going down", hint="submit again when it is up")
        if rule.adds and self.refusing:
            raise Unavailable(self.refusing, hint="free some space; what was accepted before is safe")

    def emit(self, events: Iterable[object]) -> None:
        """Apply events, and what other domains make of them, one after the other."""
        for event in events:
            archived = self.house.archives(self.view, event)
            if archived is not None:
                data = self.codec.encode_record(archived.record)
                self._turn.archived.append(ArchivedJob(archived.name, archived.number, archived.account, data))
            self.house.apply(self.view, event, self._now_ns)
            self._turn.events.append(event)
            for react in self.house.reacts.get(type(event), ()):
                self.emit(react(self.view, event, self._now_ns))


def _entered(asked: Asked) -> Asked:
    """The command in its subject's name, whatever it says. Only the site and its gateways speak for others."""
    subject, command = asked
    names = {name: value for name, value in (("account", subject.account), ("by", subject.name)) if value}
    if not subject.account and not subject.key:
        return asked
    said = {name: value for name, value in names.items() if name in command.__struct_fields__}
    return Asked(subject, replace(command, **said)) if said else asked
