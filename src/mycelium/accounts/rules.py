"""The life of an account.

`decide` turns a command into events or refuses, `apply` is the only thing that changes accounts.
Never: reads a clock, or makes a token.
"""

from __future__ import annotations

import re

from msgspec import Struct
from msgspec.structs import replace

from mycelium.accounts.events import AccountAdded, AccountEvent, TokenReplaced
from mycelium.accounts.model import Account, Accounts, Role
from mycelium.base.errors import Conflict, Missing, Refused
from mycelium.base.ids import AccountId, account_id, number_of

_NAME = re.compile(r"[a-z][a-z0-9._-]{0,31}")


class AddAccount(Struct, frozen=True):
    name: str
    role: Role
    token_hash: str
    by: str = ""
    weight: int = 1


class ReplaceToken(Struct, frozen=True):
    name: str
    token_hash: str
    by: str = ""


AccountCommand = AddAccount | ReplaceToken


def find(accounts: Accounts, text: str) -> Account:
    """The account of that id or name."""
    found = accounts.by_id.get(AccountId(text))
    found = found or next((account for account in accounts.by_id.values() if account.name == text), None)
    if found is None:
        raise Missing(f"no account is called {text[:64]!r}", hint="`myc account list` lists them")
    return found


def decide(command: AccountCommand, accounts: Accounts) -> list[AccountEvent]:
    """The events that a command leads to. Errors: `Refused`, `Conflict`, `Missing`."""
    if isinstance(command, ReplaceToken):
        return [TokenReplaced(find(accounts, command.name).id, command.token_hash, command.by)]
    if _NAME.fullmatch(command.name) is None:
        raise Refused(
            f"{command.name[:64]!r} is not a name for an account",
            hint="use a small letter, then up to 31 of a-z, 0-9, dot, dash and underscore",
        )
    if not 1 <= command.weight <= 1000:
        raise Refused(f"a weight of {command.weight} is out of range", hint="give one from 1 to 1000")
    if any(account.name == command.name for account in accounts.by_id.values()):
        raise Conflict(f"an account is called {command.name!r} already")
    number = account_id(accounts.next_number)
    return [AccountAdded(number, command.name, command.role, command.token_hash, command.by, command.weight)]


def apply(accounts: Accounts, event: AccountEvent, at_ns: int) -> None:
    """Change the accounts by one event. Never refuses."""
    if isinstance(event, TokenReplaced):
        account = accounts.by_id[event.account]
        accounts.by_token.pop(account.token_hash, None)
        account = replace(account, token_hash=event.token_hash)
    else:
        account = Account(event.account, event.name, event.role, event.token_hash, at_ns, event.weight)
        accounts.next_number = max(accounts.next_number, number_of(event.account) + 1)
    accounts.by_id[account.id] = account
    accounts.by_token[account.token_hash] = account.id


def hold(accounts: Accounts, account: AccountId, rate_m: int, at_ns: int) -> None:
    """An account holds `rate_m` milli-cpus more (or less, when negative) from `at_ns` on."""
    known = accounts.by_id.get(account)
    if known is not None:
        accounts.by_id[account] = replace(known, usage=known.usage.changed(rate_m, at_ns))
