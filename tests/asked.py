"""Commands as their doors would ask them: each in the name of whom it speaks of."""

from __future__ import annotations

from typing import Any

from mycelium.accounts.model import ROLES, Role
from mycelium.base.domain import Asked
from mycelium.base.ids import AccountId
from mycelium.base.subject import GATE, GATEWAY, SITE, USER, Subject
from mycelium.head.core import Core

ROOT = AccountId("account-1")


def asked(core: Core, command: Any) -> Asked:
    """By the account that it names, by a gateway where only these may, else by an admin who is called what it says."""
    rule = core.house.rules.get(type(command))
    if rule is None or rule.closes:
        return Asked(SITE, command)
    if rule.guard.roles == (GATEWAY,):
        return Asked(GATE, command)
    account = AccountId(getattr(command, "account", ""))
    if account:
        known = core.site.accounts.by_id.get(account)
        return Asked(known.subject("test") if known else Subject(account, frozenset({USER}), account), command)
    by = getattr(command, "by", "") or "root"
    return Asked(SITE if by == "site" else admin(by), command)


def admin(name: str = "root") -> Subject:
    return Subject(name, ROLES[Role.ADMIN], ROOT, door="test")
