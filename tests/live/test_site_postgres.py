"""A whole site whose log is a real PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from tests.live.postgres import postgres_server, postgres_url  # noqa: F401
from tests.live.site import site_at


def test_a_site_keeps_its_log_in_postgresql_and_survives_a_kill(tmp_path: Path, postgres_url: str) -> None:  # noqa: F811
    with site_at(tmp_path / "home") as site:
        site.up(f"--log-url={postgres_url}")
        array = site.submit("true", array="0-9")
        assert site.wait(array)["counts"]["done"] == 10
        site.kill()
        site.up(f"--log-url={postgres_url}")
        assert site.state(array) == "done"
        assert site.wait(site.submit("true"))["state"] == "done"
        assert site.get("/audit")["ok"]
        assert not (site.home / "site.db").exists()
