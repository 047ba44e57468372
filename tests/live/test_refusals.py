"""What is refused changes nothing: no secret, no setting and no directory is written before the decision."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.live.site import LiveSite, site_at

UPSTREAM = "http://127.0.0.1:1/v1"


def lies_in(home: Path) -> dict[str, bytes]:
    """Every file of the home but the lock and what a head says of its end."""
    found = {str(path.relative_to(home)): path for path in home.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name not in ("lock", "last-word", "head.log")}


def myc(site: LiveSite, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "mycelium.cli.main", *words]
    return subprocess.run(command, env=site.env, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--host", "203.0.113.7", "--tls"), "203.0.113.7"),
        (("--host", "localhost", "--tls"), "certificates name IP addresses"),
        (("--engine", "steam", "--tls"), "no engine is called 'steam'"),
        (("--engine", "ray", "--tls"), "other machines need an address"),
    ],
)
@pytest.mark.parametrize("detach", [(), ("--detach",)], ids=["here", "behind"])
def test_a_site_that_cannot_start_leaves_its_home_as_it_was(
    tmp_path: Path, words: tuple[str, ...], said: str, detach: tuple[str, ...]
) -> None:
    with site_at(tmp_path / "home") as site:
        done = myc(site, "up", "--port=0", *words, *detach)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
        assert lies_in(site.home) == {}


def test_a_start_that_is_refused_does_not_change_how_the_site_is_taken_up(tmp_path: Path) -> None:
    with site_at(tmp_path / "home", nodes=1) as site:
        site.up("--gateways=2").down()
        kept = lies_in(site.home)
        assert json.loads(kept["up.json"])["gateways"] == 2
        assert myc(site, "up", "--host", "203.0.113.7", "--gateways=3", "--nodes=2").returncode == 2
        assert lies_in(site.home) == kept


@pytest.fixture(scope="module")
def far(shared_site: LiveSite) -> LiveSite:
    """A site that passes `far` on to a server elsewhere, with a key."""
    shared_site.post("/deployments", {"name": "far", "upstream": UPSTREAM, "upstream_key": "secret"})
    return shared_site


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"upstream": "not-a-url"}, 400),
        ({"upstream": "http://elsewhere", "kind": "poem"}, 400),
        ({"upstream": UPSTREAM, "upstream_key": "ünicode"}, 400),
        ({"upstream": "http://elsewhere", "upstream_key": "x" * 1025}, 400),
        ({"model": "nothing"}, 404),
    ],
)
def test_a_deployment_that_is_refused_keeps_its_key(far: LiveSite, asked: dict[str, Any], status: int) -> None:
    before = (far.home / "tokens/upstreams").read_bytes()
    assert b"secret" in before
    assert far.http.post("/deployments", json={"name": "far", **asked}).status_code == status
    assert (far.home / "tokens/upstreams").read_bytes() == before
    assert far.get("/deployments/far")["upstream"] == UPSTREAM


def test_who_may_not_change_a_deployment_does_not_change_its_key(far: LiveSite) -> None:
    before = (far.home / "tokens/upstreams").read_bytes()
    token = far.post("/accounts", {"name": "ann"})["token"]
    headers = {"authorization": f"Bearer {token}"}
    asked = {"name": "far", "upstream": "http://elsewhere", "upstream_key": "mine"}
    assert far.http.post("/deployments", json=asked, headers=headers).status_code == 403
    assert far.http.delete("/deployments/far", headers=headers).status_code == 403
    assert (far.home / "tokens/upstreams").read_bytes() == before


def test_a_login_that_is_refused_leaves_the_logins_as_they_were(far: LiveSite) -> None:
    url, token = far.get("/status")["url"], (far.home / "tokens/admin").read_text().strip()
    assert myc(far, "login", url, "--token", token).returncode == 0
    kept = far.home / "config/mycelium/logins.json"
    before = kept.read_bytes()
    assert myc(far, "login", url, "--token", "myc_wrong").returncode != 0
    assert myc(far, "login", "http://127.0.0.1:1", "--token", token).returncode != 0
    assert kept.read_bytes() == before


def test_a_certificate_that_cannot_be_handed_over_is_not_recorded(far: LiveSite, tmp_path: Path) -> None:
    assert myc(far, "ca", "init").returncode == 0
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    assert myc(far, "ca", "issue", "ann", "--output", str(in_the_way / "signer")).returncode != 0
    assert not (far.home / "ca" / "issued").exists()
