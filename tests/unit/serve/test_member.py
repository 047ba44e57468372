"""A machine keeps nothing of a site that refused it, and leaves when it is told to, whatever the site does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mycelium.base.errors import Denied, Problem, Unavailable
from mycelium.cli.site.join import JoinNews
from mycelium.serve import member


def test_the_third_wish_to_go_is_granted_while_the_site_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: Any) -> None:
        await asyncio.Event().wait()

    async def leave() -> None:
        wishes: asyncio.Queue[int] = asyncio.Queue()
        for _ in range(3):
            wishes.put_nowait(1)
        news = JoinNews()
        news.state, news.waits = "up", False
        await asyncio.wait_for(member._leave(None, wishes, news), 30)  # type: ignore[arg-type]
        assert wishes.empty()

    monkeypatch.setattr(member, "_until_answered", never)
    asyncio.run(leave())


def asked(home: Path, monkeypatch: pytest.MonkeyPatch, answer: Problem | dict[str, Any]) -> member.Membership:
    """A machine whose first question, with a new certificate to trust, is answered like this."""

    class Site:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def post(self, *_: Any) -> dict[str, Any]:
            if isinstance(answer, Problem):
                raise answer
            return answer

        def close(self) -> None: ...

    monkeypatch.setattr(member, "Client", Site)
    monkeypatch.setattr("mycelium.engine.ray.host.versions", dict)
    tls = member.trust(home, "a new authority")
    machine = member.Membership("https://10.0.0.1:8700", home, "host1", "10.0.0.2", [], tls, "a new authority")
    asyncio.run(member._first(machine, "token", str))
    return machine


def lies_in(home: Path) -> dict[str, str]:
    return {str(path.relative_to(home)): path.read_text() for path in home.rglob("*") if path.is_file()}


def test_a_machine_that_is_refused_keeps_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Denied):
        asked(tmp_path, monkeypatch, Denied("the token is too old"))
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_leaves_whom_a_machine_trusted_and_who_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "ca.pem").write_text("the authority of old")
    member._key(tmp_path / "machine.key")
    before = lies_in(tmp_path)
    with pytest.raises(Denied):
        asked(tmp_path, monkeypatch, Denied("the token is too old"))
    assert lies_in(tmp_path) == before


def test_a_site_that_was_silent_may_have_let_the_machine_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable):
        asked(tmp_path, monkeypatch, Unavailable("it did not answer in time"))
    assert set(lies_in(tmp_path)) == {"machine.key", "tls/machine.key"}


def test_a_machine_that_is_let_in_trusts_the_sites_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    member = asked(tmp_path, monkeypatch, {"node": "node-2", "certificate": None})
    assert (tmp_path / "tls" / "ca.pem").read_text() == "a new authority\n"
    assert member.ca == ""
