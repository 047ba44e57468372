"""A domain that is not in the house: with tables, an event that has two versions, a command with a guard, a reaction to
the end of jobs, and a view. `python -m tests.toy up …` is `myc` with it mounted.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from mycelium.base.domain import Asked, Decided, Domain, EventKind, Rule, Show, View
from mycelium.base.errors import Conflict
from mycelium.base.ids import AccountId
from mycelium.base.subject import ANY_USER, Subject
from mycelium.jobs.events import JobEnded


class Toys(Struct):
    color_of: dict[str, str] = field(default_factory=dict)


class ToyMade(Struct, frozen=True):
    """In version 1 its colour was called `colour`."""

    toy: str
    color: str
    account: AccountId


class MakeToy(Struct, frozen=True):
    """Make a toy."""

    account: AccountId
    toy: str
    color: str = "red"


def lift(document: dict[str, Any]) -> dict[str, Any]:
    document["color"] = document.pop("colour")
    return document


def apply(view: View, event: ToyMade, at_ns: int) -> None:
    view.state.toys.color_of[event.toy] = event.color


def make(view: View, asked: Asked, now_ns: int) -> Decided:
    command: MakeToy = asked.command
    if command.toy in view.state.toys.color_of:
        raise Conflict(f"a toy is called {command.toy!r} already")
    return [ToyMade(command.toy, command.color, command.account)], command.toy


def job_ended(view: View, event: JobEnded, now_ns: int) -> list[ToyMade]:
    return [ToyMade(f"toy-of-{event.job}", "gold", view.state.jobs.by_id[event.job].account)]


def toys(view: View, subject: Subject, now_ns: int) -> dict[str, Any]:
    return {"toys": [{"toy": toy, "color": color} for toy, color in view.state.toys.color_of.items()]}


TOY = Domain(
    name="toys",
    tables=Toys,
    kinds=(EventKind(ToyMade, apply, lambda e: f"{e.account} made a {e.color} toy", ("toy", "account"), (lift,)),),
    commands={MakeToy: Rule(make, ANY_USER, door="toys")},
    reacts={JobEnded: job_ended},
    shows={"toys": Show("List the toys", toys, ANY_USER)},
)


def main() -> None:
    from mycelium.cli.main import main as myc
    from mycelium.head import domains

    domains.DOMAINS = (*domains.DOMAINS, TOY)
    myc()


if __name__ == "__main__":
    main()
