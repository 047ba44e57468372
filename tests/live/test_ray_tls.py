"""A site of two hosts that speaks TLS everywhere: API, Ray and porters, with certificates of its own CA."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.rig.net import needs_rig
from tests.live.rig.site import rig_site
from tests.live.site import wait_for

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = [needs_rig, pytest.mark.timeout(300)]


def test_machines_join_and_work_over_tls_and_plain_speech_is_not_understood(tmp_path: Path) -> None:
    with rig_site(tmp_path / "s", 2) as site:
        site.up("--tls")
        assert json.loads((site.home(0) / "site.json").read_text())["url"].startswith("https://")
        invite = tmp_path / "invite"
        invite.write_text(site.myc("node", "invite").stdout)
        site.join(1, token_file=str(invite))
        wait_for(lambda: site.state("host1") == "up", "host 1 to be up")
        job = site.submit("sh", "-c", "echo from $MYC_NODE_NAME", on="edge")
        assert site.wait(job)["state"] == "done"
        assert "from host1" in site.output(job)
        plain = f"import urllib.request; urllib.request.urlopen('http://{site.net.address(0)}:8700/health', timeout=9)"
        asked = subprocess.run(
            site.net.inside(1, sys.executable, "-c", plain), capture_output=True, text=True, check=False
        )
        assert asked.returncode != 0
        for process in site.find(0, "gcs_server"):
            assert process.environ()["RAY_USE_TLS"] == "1"
