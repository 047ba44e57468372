"""A machine that asks to be a node: what is refused is refused before the head has taken anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from mycelium.base.errors import Refused
from mycelium.base.home import Home
from mycelium.base.version import __version__
from mycelium.engine.orders import WIRE_VERSION
from mycelium.serve.http import machines
from mycelium.serve.http.ground import Opened
from mycelium.serve.tls import Authority, request


class NeverAsked:
    """A head and an entrance that a refusal must not reach."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was touched before the decision")


def ask(document: dict[str, Any], authority: Authority) -> Any:
    async def stream() -> AsyncIterator[bytes]:
        yield msgspec.json.encode(document)

    head = SimpleNamespace(clock=SimpleNamespace(now_ns=lambda: 0), core=NeverAsked(), ask=NeverAsked())
    opened = Opened(SimpleNamespace(versions={}), "token", authority)  # type: ignore[arg-type]
    return asyncio.run(machines.ask(SimpleNamespace(stream=stream), NeverAsked(), head, opened, "hash"))  # type: ignore[arg-type]


@pytest.mark.parametrize(("address", "harm"), [("10.0.0.2", "x"), ("not-an-address", "")])
def test_a_certificate_that_cannot_be_made_lets_nobody_in(tmp_path: Path, address: str, harm: str) -> None:
    document = {
        "name": "host1",
        "versions": {"mycelium": __version__, "wire": str(WIRE_VERSION)},
        "time_ns": 0,
        "address": address,
        "request": harm + request(tmp_path / "machine.key", "host1")[len(harm) :],
    }
    with pytest.raises(Refused, match="certificate request cannot be used"):
        ask(document, Authority(Home(tmp_path).tls))
