"""Accounts and what they have used.

Never: reads a clock, or sees a token: only its hash comes in here.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct, field

from mycelium.base.ids import AccountId
from mycelium.base.limits import USAGE_HALF_LIFE_S
from mycelium.base.subject import Subject
from mycelium.base.units import S_NS


class Role(StrEnum):
    ADMIN = "admin"  # may do everything
    OPERATOR = "operator"  # keeps the site running: nodes, and everybody's jobs
    USER = "user"


ROLES = {
    Role.USER: frozenset({"user"}),
    Role.OPERATOR: frozenset({"user", "operator"}),
    Role.ADMIN: frozenset({"user", "operator", "admin"}),
}


class Usage(Struct, frozen=True):
    """What an account has used, forgotten by half every `USAGE_HALF_LIFE_S`, and what it holds right now.

    Units: `spent` in cpu-seconds, `rate_m` in milli-cpus held.
    """

    spent: float = 0.0
    rate_m: int = 0
    at_ns: int = 0

    def spent_at(self, now_ns: int) -> float:
        """Cpu-seconds used until `now_ns`, the running leases included."""
        passed_s = max(0, now_ns - self.at_ns) / S_NS
        return self.spent * 0.5 ** (passed_s / USAGE_HALF_LIFE_S) + self.rate_m * passed_s / 1000

    def changed(self, rate_m: int, now_ns: int) -> Usage:
        """The usage after the held rate changed by `rate_m` at `now_ns`."""
        return Usage(self.spent_at(now_ns), self.rate_m + rate_m, max(now_ns, self.at_ns))


class Account(Struct, frozen=True):
    id: AccountId
    name: str
    role: Role
    token_hash: str  # SHA-256 of the token in hexadecimal: tokens have 256 bits of chance, so no slow hash is needed
    created_ns: int
    weight: int = 1  # its share of the site beside the others
    usage: Usage = Usage()

    def subject(self, door: str) -> Subject:
        """Who asks when somebody shows its token there."""
        return Subject(self.name, ROLES[self.role], self.id, door=door)


class Accounts(Struct):
    by_id: dict[AccountId, Account] = field(default_factory=dict)
    by_token: dict[str, AccountId] = field(default_factory=dict)
    next_number: int = 1
