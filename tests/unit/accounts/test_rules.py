"""The life of an account."""

from __future__ import annotations

import pytest

from mycelium.accounts.model import Accounts, Role
from mycelium.accounts.rules import AddAccount, ReplaceToken, apply, decide, find, hold
from mycelium.base.errors import Conflict, Missing, Refused
from mycelium.base.ids import AccountId
from mycelium.base.units import S_NS

ADA = AccountId("account-1")


def with_ada() -> Accounts:
    accounts = Accounts()
    do(accounts, AddAccount("ada", Role.USER, "1" * 64, "root", 2))
    return accounts


def do(accounts: Accounts, command: AddAccount | ReplaceToken) -> None:
    for event in decide(command, accounts):
        apply(accounts, event, 7)


def test_an_account_is_found_by_name_id_and_token() -> None:
    accounts = with_ada()
    assert find(accounts, "ada") == find(accounts, "account-1") == accounts.by_id[accounts.by_token["1" * 64]]
    assert (find(accounts, "ada").weight, find(accounts, "ada").role) == (2, Role.USER)
    with pytest.raises(Missing):
        find(accounts, "bob")


def test_a_replaced_token_is_worth_nothing() -> None:
    accounts = with_ada()
    do(accounts, ReplaceToken("ada", "2" * 64, "root"))
    assert accounts.by_token == {"2" * 64: ADA}
    with pytest.raises(Missing):
        do(accounts, ReplaceToken("bob", "2" * 64, "root"))


def test_two_accounts_cannot_have_one_name() -> None:
    with pytest.raises(Conflict):
        do(with_ada(), AddAccount("ada", Role.ADMIN, "3" * 64, "root"))


@pytest.mark.parametrize("name", ["", "Ada", "1a", "a b", "a" * 33, "a/b", "ada\n", "ä", "\ud800"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="is not a name for an account"):
        do(Accounts(), AddAccount(name, Role.USER, "1" * 64, "root"))


@pytest.mark.parametrize("weight", [0, -1, 1001])
def test_a_weight_has_its_bounds(weight: int) -> None:
    with pytest.raises(Refused, match="a weight of"):
        do(Accounts(), AddAccount("bob", Role.USER, "1" * 64, "root", weight))


def test_numbers_are_never_given_twice() -> None:
    accounts = with_ada()
    do(accounts, AddAccount("bob", Role.USER, "2" * 64, "root"))
    assert list(accounts.by_id) == ["account-1", "account-2"]
    assert accounts.next_number == 3


def test_what_is_held_and_given_back_is_balanced() -> None:
    accounts = with_ada()
    hold(accounts, ADA, 2000, 10 * S_NS)
    assert accounts.by_id[ADA].usage.rate_m == 2000
    hold(accounts, ADA, -2000, 40 * S_NS)
    usage = accounts.by_id[ADA].usage
    assert usage.rate_m == 0
    assert usage.spent == pytest.approx(60)


def test_an_account_that_is_gone_holds_nothing() -> None:
    accounts = with_ada()
    hold(accounts, AccountId("account-9"), 1000, 5)
    assert list(accounts.by_id) == [ADA]
