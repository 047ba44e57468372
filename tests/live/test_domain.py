"""A domain that is mounted by one word has its doors, and `myc` reaches them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


class Toyed:
    """A site in which `tests.toy` lives too, or not."""

    def __init__(self, home: Path) -> None:
        config = str(home.parent / "config")
        self.env = {**os.environ, "MYC_HOME": str(home), "XDG_CONFIG_HOME": config, "NO_COLOR": "1"}
        self.process: subprocess.Popen[bytes] | None = None

    def up(self, module: str = "tests.toy") -> None:
        words = [sys.executable, "-m", module, "up", "--nodes=1", "--port=0"]
        self.process = subprocess.Popen(words, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        until_s = time.monotonic() + 60
        while self.process.poll() is None and self.myc("status").returncode and time.monotonic() < until_s:
            time.sleep(0.1)

    def end(self, number: int = signal.SIGTERM) -> bytes:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.communicate(timeout=60)[1]

    def myc(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mycelium.cli.main", *words]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)

    def told(self, *words: str) -> dict[str, object]:
        done = self.myc(*words, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Toyed]:
    site = Toyed(tmp_path / "home")
    site.up()
    yield site
    if site.process is not None and site.process.poll() is None:
        site.end()


def test_a_domain_that_is_mounted_is_reached_through_http_and_myc_and_lives_on(site: Toyed) -> None:
    assert site.told("do", "toys", "toy=bear", "color=brown") == {"answer": "bear"}
    assert "bear  brown" in site.myc("show", "toys").stdout
    again = site.myc("do", "toys", "toy=bear")
    assert (again.returncode, "a toy is called 'bear' already" in again.stderr) == (5, True)
    assert site.myc("do", "toys", "toy=duck", "account=account-1").returncode == 2  # nobody says who he is
    assert "/toys" in site.told("show", "openapi.json")["paths"]  # type: ignore[operator]
    site.end(signal.SIGKILL)
    site.up()
    assert site.told("show", "toys") == {"toys": [{"toy": "bear", "color": "brown"}]}
    site.end()
    site.up("mycelium.cli.main")
    assert site.process is not None
    said = site.process.communicate(timeout=60)[1].decode()
    assert site.process.returncode == 2
    assert "the log holds an event of kind 'ToyMade/2'" in said


def test_nodes_and_accounts_have_stories_as_jobs_have(site: Toyed) -> None:
    assert "offers" in site.myc("story", "node-1").stdout
    assert "site added the account admin" in site.myc("story", "admin").stdout
    unknown = site.myc("story", "nobody-has-this-name")
    assert (unknown.returncode, "nothing has happened to" in unknown.stderr) == (3, True)
