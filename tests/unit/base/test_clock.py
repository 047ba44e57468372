"""The only place that reads a clock."""

from __future__ import annotations

import time

import pytest

from mycelium.base.clock import Clock


def test_a_clock_never_runs_backwards_when_the_wall_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    first = clock.now_ns()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert clock.now_ns() >= first


def test_a_clock_follows_the_steady_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_000)
    monkeypatch.setattr(time, "monotonic_ns", lambda: 50)
    clock = Clock()
    monkeypatch.setattr(time, "monotonic_ns", lambda: 80)
    monkeypatch.setattr(time, "time_ns", lambda: 99_000)
    assert clock.now_ns() == 1_030


def test_a_clock_is_never_before_the_newest_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_000)
    monkeypatch.setattr(time, "monotonic_ns", lambda: 0)
    clock = Clock(not_before_ns=5_000)
    assert clock.now_ns() == 5_000
