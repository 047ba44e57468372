"""Who asks, and what a guard says to it.

Every command and every look carries a subject: a door makes it from what was shown there, and nothing that is asked
can say another. A guard is a value: the head asks it, whichever door the question came through, and the documentation
prints it.
Never: reads a token, or knows a domain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec import Struct

from mycelium.base.errors import Denied, Missing, Problem, Unknown
from mycelium.base.ids import AccountId

USER, OPERATOR, ADMIN, MACHINE, GATEWAY, OWN = "user", "operator", "admin", "machine", "gateway", "site"
ROLES = (USER, OPERATOR, ADMIN, MACHINE, GATEWAY, OWN)


class Subject(Struct, frozen=True):
    """`name` is how the log calls it; `account` pays; `key` is the hash of what a machine shows."""

    name: str
    roles: frozenset[str] = frozenset()
    account: AccountId = AccountId("")
    key: str = ""
    door: str = ""

    def has(self, *roles: str) -> bool:
        return not self.roles.isdisjoint(roles)


NOBODY = Subject("nobody")
SITE = Subject("site", frozenset({OWN}), door="head")
GATE = Subject("gateway", frozenset({GATEWAY}), door="gateway")

Owner = Callable[[Any, Any], "AccountId | None"]  # (view, what is asked) -> whose it is; None where it is not there


class Guard(NamedTuple):
    """Who may ask something: whoever has one of `roles`, and where there is an `owner`, who owns it.

    `more` looks at what is asked itself, and says what is wrong with it for this subject.
    """

    says: str
    roles: tuple[str, ...]
    owner: Owner | None = None
    more: Callable[[Subject, Any, Any], Problem | None] | None = None

    def check(self, subject: Subject, view: Any, asked: Any) -> None:
        """Errors: `Unknown` for nobody, `Denied` for anybody else who may not."""
        if subject.has(*self.roles):
            pass
        elif self.owner is not None and subject.has(USER):
            if (whose := self.owner(view, asked)) is not None and whose != subject.account:
                raise Denied("it belongs to another account", hint=f"only {self.says} may do this")
        elif not subject.roles:
            raise Unknown("no valid token was shown", hint="send the header 'Authorization: Bearer TOKEN'")
        else:
            raise Denied(f"only {self.says} may do this")
        if self.more is not None and (problem := self.more(subject, view, asked)) is not None:
            raise problem

    def allows(self, subject: Subject, view: Any, asked: Any) -> bool:
        try:
            self.check(subject, view, asked)
        except (Denied, Missing):
            return False
        return True


ANYBODY = Guard("anybody, without a token", ROLES)  # never checked: what it guards says nothing of the site
ANY_USER = Guard("a user", (USER,))
AN_OPERATOR = Guard("an operator or an admin", (OPERATOR, ADMIN))
AN_ADMIN = Guard("an admin", (ADMIN,))
A_MACHINE = Guard("a machine, for itself", (MACHINE,))
A_GATEWAY = Guard("a gateway of the site", (GATEWAY,))
THE_SITE = Guard("the site itself", (OWN,))


def owned(owner: Owner, *more: str) -> Guard:
    """Who owns it, an operator or an admin; and whoever else is named."""
    return Guard("its account, an operator or an admin", (OPERATOR, ADMIN, *more), owner)
