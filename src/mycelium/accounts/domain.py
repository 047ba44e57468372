"""Accounts as a domain: what the head knows of them by."""

from __future__ import annotations

from typing import Any

from mycelium.accounts import rules
from mycelium.accounts.model import Accounts
from mycelium.accounts.rules import AddAccount, ReplaceToken
from mycelium.accounts.story import SENTENCES
from mycelium.base.domain import Asked, Decided, Domain, EventKind, Rule, View
from mycelium.base.subject import ADMIN, AN_ADMIN, ANY_USER, OWN, Guard


def _apply(view: View, event: Any, at_ns: int) -> None:
    rules.apply(view.state.accounts, event, at_ns)


def _decide(view: View, asked: Asked, now_ns: int) -> Decided:
    """Answers with the account's id."""
    happens = rules.decide(asked.command, view.state.accounts)
    return happens, happens[0].account


# The first admin is the site's own doing: nobody is there yet who could ask for it.
ADMIN_OR_SITE = Guard("an admin", (ADMIN, OWN))

DOMAIN = Domain(
    name="accounts",
    tables=Accounts,
    kinds=tuple(EventKind(kind, _apply, says, ("account",)) for kind, says in SENTENCES.items()),
    commands={AddAccount: Rule(_decide, ADMIN_OR_SITE), ReplaceToken: Rule(_decide, AN_ADMIN)},
    looks={"accounts": ANY_USER},
    lifts={"ed9140f117bef009": lambda tables: tables},  # of 0.1, which had one role less
)
