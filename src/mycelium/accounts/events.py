"""What can happen to an account."""

from __future__ import annotations

from msgspec import Struct

from mycelium.accounts.model import Role
from mycelium.base.ids import AccountId


class AccountAdded(Struct, frozen=True):
    account: AccountId
    name: str
    role: Role
    token_hash: str
    by: str
    weight: int = 1


class TokenReplaced(Struct, frozen=True):
    account: AccountId
    token_hash: str
    by: str


AccountEvent = AccountAdded | TokenReplaced
