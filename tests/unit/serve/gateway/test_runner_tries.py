"""How often a line of a batch is tried."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from mycelium.inference.lines import BatchLine
from mycelium.serve.gateway import runner
from mycelium.serve.gateway.errors import of_backend
from mycelium.serve.gateway.runner import LINE_TRIES_MAX, BatchWork
from mycelium.serve.http1.errors import ApiError, unavailable

FAILURE = of_backend(500, b'{"error":{"message":"out of memory"}}')


def tried(monkeypatch: pytest.MonkeyPatch, *errors: ApiError) -> tuple[int, list[Any]]:
    """How often a line was asked when these come one after another, and then failures; and what became of it."""
    monkeypatch.setattr(runner, "RETRY_S", 0.0)
    left, asked = list(errors), 0

    async def answer(*words: object, **named: object) -> None:
        nonlocal asked
        asked += 1
        raise left.pop(0) if left else FAILURE

    completions = SimpleNamespace(admit=lambda *words: (None, None), answer=answer)
    row = SimpleNamespace(id="b", key="k", account="a", endpoint="/v1/chat/completions")
    work = BatchWork(SimpleNamespace(completions=completions, caller=lambda row: None, row=lambda name: row), row)  # pyright: ignore
    asyncio.run(work._answer(0, BatchLine("one", {})))
    return asked, work._results


def test_a_line_at_which_the_model_fails_is_tried_a_few_times_and_is_an_error_then(monkeypatch: pytest.MonkeyPatch):
    asked, (result,) = tried(monkeypatch)
    assert asked == LINE_TRIES_MAX
    assert result.failed
    assert b"out of memory" in result.text


def test_replicas_that_are_away_cost_a_line_no_try(monkeypatch: pytest.MonkeyPatch):
    asked, _ = tried(monkeypatch, *[unavailable("nobody is there")] * 20)
    assert asked == 20 + LINE_TRIES_MAX
