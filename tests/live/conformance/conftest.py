from __future__ import annotations

from pathlib import Path

import pytest

from mycelium.engine.orders import Sandbox
from tests.live.conformance import rays
from tests.live.conformance.play import MAKERS, Stage
from tests.live.walls import needs_sandbox


@pytest.fixture(params=sorted(MAKERS))
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Stage:
    if request.param == "ray":
        rays.shared()
    return Stage(request.param, tmp_path / "home")


@pytest.fixture(params=[Sandbox.NONE, pytest.param(Sandbox.PROCESS, marks=needs_sandbox)])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    return request.param


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if "[ray" not in item.name or rays.wanted(item.name)]
