"""What live tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.site import LiveSite, site_at


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LiveSite]:
    """A site of two nodes that runs."""
    with site_at(tmp_path / "home") as site:
        yield site.up()


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSite]:
    """A site for the tests of a module that leave it as they found it."""
    with site_at(tmp_path_factory.mktemp("shared") / "home") as site:
        yield site.up()
