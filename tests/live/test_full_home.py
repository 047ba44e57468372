"""A head whose disk fills up goes, and says why to whoever asks afterwards."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import httpx

from mycelium.base.units import MIB
from tests.live.disk import needs_root, small_disk
from tests.live.site import LiveSite


@needs_root
def test_a_head_that_a_full_disk_took_away_is_told_with_the_reason(tmp_path: Path) -> None:
    with small_disk(tmp_path / "home", 330) as home:
        site = LiveSite(home, nodes=1).up()
        try:
            fill(home / "fill", MIB)
            fill(home / "more", 512)
            with contextlib.suppress(httpx.HTTPError, AssertionError):  # the last request gets no answer, or a 503
                for _ in range(20_000):
                    site.post("/nodes/node-1/drain")
                    site.post("/nodes/node-1/return")
            assert site.process is not None
            site.process.wait(60)
            said = subprocess.run(
                [sys.executable, "-m", "mycelium.cli.main", "status"],
                env={**os.environ, **site.env},
                capture_output=True,
                text=True,
                check=False,
            )
            assert said.returncode == 7
            assert "it ended because the disk of the log" in said.stderr
            assert "its disk has" in said.stderr
        finally:
            site.end()


def fill(path: Path, piece_bytes: int) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(piece_bytes))
