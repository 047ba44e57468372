"""What an engine offers to programs, and who is told of it."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from mycelium.agent.shim.plan import environment
from mycelium.base.errors import Refused, Unavailable
from mycelium.base.home import Home
from mycelium.base.ids import StepId
from mycelium.engine.orders import Sandbox, Step
from mycelium.engine.spec import Spec
from mycelium.nodes.model import Devices
from mycelium.pools.ray import offer as pool_offer
from mycelium.pools.ray.pool import RayPool


def test_an_offer_is_read_as_it_was_kept_and_holds_variables_of_ray_only(tmp_path: Path) -> None:
    pool_offer.keep(tmp_path, "10.0.0.1:6379", {"RAY_AUTH_MODE": "token", "SECRET": "x"})
    kept = Home(tmp_path).pool
    assert pool_offer.read(kept) == pool_offer.RayOffer("10.0.0.1:6379", {"RAY_AUTH_MODE": "token"})
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    pool_offer.withdraw(tmp_path)
    pool_offer.withdraw(tmp_path)
    with pytest.raises(Unavailable):
        pool_offer.read(kept)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"address": 3}'])
def test_an_offer_that_is_broken_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "offer").write_bytes(content)
    with pytest.raises(Unavailable):
        pool_offer.read(tmp_path / "offer")


@pytest.mark.parametrize(
    ("boxed", "gpus", "told"), [(False, None, True), (False, (), True), (True, None, False), (False, (0,), False)]
)
def test_only_a_step_without_sandbox_and_gpus_is_told_of_the_offer(boxed: bool, gpus: Any, told: bool) -> None:
    step = Step(StepId("job-1-a1-r0"), ("true",), Devices(), 0, 0, Sandbox.PROCESS if boxed else Sandbox.NONE)
    assert ("MYC_POOL" in environment(Spec(step, gpus=gpus, pool="/home/pool.json"), "/h", "/t")) is told


def test_addresses_and_slots_that_cannot_be_are_refused() -> None:
    for wrong in ("", "ray://10.0.0.1:1"):
        with pytest.raises(Refused, match="is not an address of Ray's own"):
            RayPool(wrong)
    with pytest.raises(Refused, match="1 to"):
        RayPool("10.0.0.1:1", nodes={"a": 0})
