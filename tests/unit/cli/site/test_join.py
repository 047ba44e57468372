"""A machine leaves when it is told to, whatever the site does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mycelium.cli.site import join


def test_the_third_wish_to_go_is_granted_while_the_site_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: Any) -> None:
        await asyncio.Event().wait()

    async def leave() -> None:
        wishes: asyncio.Queue[int] = asyncio.Queue()
        for _ in range(3):
            wishes.put_nowait(1)
        news = join._News({"state": "up", "waits": False})
        await asyncio.wait_for(join._leave(None, wishes, news), 30)  # type: ignore[arg-type]
        assert wishes.empty()

    monkeypatch.setattr(join, "_until_answered", never)
    asyncio.run(leave())
