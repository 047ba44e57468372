"""What an account has used."""

from __future__ import annotations

import pytest

from mycelium.accounts.model import Usage
from mycelium.base.limits import USAGE_HALF_LIFE_S
from mycelium.base.units import S_NS


def test_half_is_forgotten_in_the_half_life() -> None:
    assert Usage(100.0).spent_at(USAGE_HALF_LIFE_S * S_NS) == pytest.approx(50)
    assert Usage(100.0).spent_at(2 * USAGE_HALF_LIFE_S * S_NS) == pytest.approx(25)


def test_what_runs_counts_until_now() -> None:
    assert Usage(0.0, rate_m=3000, at_ns=0).spent_at(10 * S_NS) == pytest.approx(30)


def test_a_change_keeps_what_was_spent_before_it() -> None:
    usage = Usage().changed(1000, 0).changed(1000, 10 * S_NS).changed(-2000, 20 * S_NS)
    assert usage.rate_m == 0
    assert usage.spent == pytest.approx(30, rel=1e-3)


def test_time_that_seems_to_run_backwards_changes_nothing() -> None:
    usage = Usage(10.0, 1000, 50 * S_NS)
    assert usage.spent_at(20 * S_NS) == 10.0
    assert usage.changed(0, 20 * S_NS).at_ns == 50 * S_NS
