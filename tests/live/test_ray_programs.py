"""Programs over Ray on a site of three hosts: who gets Ray and who must not, and what a running program survives."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import mycelium as my
from mycelium.polymer.container import authority, pmr, signing, values
from mycelium.polymer.forms.seal import seal
from mycelium.programs.report import PROGRESS
from tests.live.rig.net import needs_rig
from tests.live.rig.site import RigSite, rig_site
from tests.live.site import wait_for

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = [needs_rig, pytest.mark.timeout(600)]

LONG = os.environ.get("MYC_TEST_LONG") == "1"  # every kill; else the cheapest
CALLS = 2000


@my.kernel
def slow_square(x: int) -> int:
    time.sleep(0.01)
    return x * x


@my.kernel
def add(a: int, b: int) -> int:
    return a + b


@my.program
def sum_of_squares(xs: list[int]) -> int:
    return my.reduce(add, my.map(slow_square, xs), associative=True)


@my.kernel
def place(x: int) -> str:
    time.sleep(0.05)
    return os.environ.get("MYC_RAY_DIRECTORY", "")


@my.program
def places(xs: list[int]) -> list[str]:
    return my.map(place, xs)


SUBMIT = """
import json, sys
from pathlib import Path
from mycelium.client.site import Client
from mycelium.client import program
url, token, container, inputs, asked = json.load(sys.stdin)
job = program.submit(Client(url, token), Path(container).read_bytes(), Path(inputs).read_bytes(), asked)
print(job["id"])
"""


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> authority.Issued:
    return authority.create("ours", dt.datetime.now(dt.UTC))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, signer: Any) -> Iterator[RigSite]:
    with rig_site(tmp_path_factory.mktemp("rig") / "s", 3) as site:
        (site.home(0) / "ca").mkdir(parents=True)
        (site.home(0) / "ca" / "authority.pem").write_bytes(signer.certificate_pem)
        site.up()
        site.join_up(1, 2)
        yield site


@pytest.fixture(autouse=True)
def whole(site: RigSite) -> None:
    wait_for(lambda: all(site.state(name) == "up" for name in ("node-1", "host1", "host2")), "all hosts to be up")


class Program:
    """A signed program that runs on the site."""

    def __init__(self, site: RigSite, signer: Any, where: Path, of: Any, xs: list[int], **asked: Any) -> None:
        import json

        self.site, self.where = site, where
        ann = authority.issue(signer.key_pem, signer.certificate_pem, "ann", dt.datetime.now(dt.UTC), days=1)
        (where / "p.pmr").write_bytes(signing.sign(pmr.pack(seal(of.module)), ann.key_pem, ann.certificate_pem))
        (where / "i.pmv").write_bytes(values.pack({"xs": xs}))
        url = json.loads((site.home(0) / "site.json").read_text())["url"]
        token = (site.home(0) / "tokens" / "admin").read_text().strip()
        given = json.dumps([url, token, str(where / "p.pmr"), str(where / "i.pmv"), {"nodes": 3, "cpus": 1} | asked])
        words = site.net.inside(0, sys.executable, "-c", SUBMIT)
        done = subprocess.run(words, input=given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        self.job = done.stdout.strip()

    def wait_under_way(self) -> None:
        def far() -> bool:
            said = self.site.myc("logs", self.job, "--stderr", check=False).stdout.splitlines()
            told = [line for line in said if PROGRESS in line]
            return bool(told) and int(told[-1].split(PROGRESS)[1].split()[0]) > 30

        wait_for(far, f"{self.job} to be under way")

    def result(self) -> Any:
        ended = self.site.wait(self.job)
        assert ended["state"] == "done", (self.site.story(self.job), self.site.output(self.job))
        self.site.myc("outputs", self.job, str(self.where / "out"))
        return values.read(next((self.where / "out").rglob("result.pmv")).read_bytes())


def test_a_program_without_a_sandbox_runs_on_ray_on_every_node_of_its_lease(
    site: RigSite, signer: Any, tmp_path: Path
) -> None:
    found = set(Program(site, signer, tmp_path, places, list(range(400)), sandbox="none").result())
    assert "" in found, "rank 0 works itself"
    assert len(found) == 3
    assert found - {""} < {str(site.home(host) / "ray") for host in range(3)}


def test_what_runs_in_a_sandbox_is_not_told_of_ray_and_cannot_read_its_token(
    site: RigSite, signer: Any, tmp_path: Path
) -> None:
    found = Program(site, signer, tmp_path, places, list(range(60))).result()
    assert set(found) == {""}
    look = f"echo offer=$MYC_POOL; cat {site.home(0)}/ray/token {site.home(0)}/pool.json"
    job = site.post("/jobs", {"command": ["sh", "-c", look], "on": "!edge"})["jobs"][0]["id"]
    site.wait(job)
    assert site.output(job).strip() == "offer="
    named = site.submit("sh", "-c", "cat $MYC_POOL", on="!edge")
    site.wait(named)
    assert '"RAY_AUTH_TOKEN_PATH"' in site.output(named)


def end(victims: list[psutil.Process]) -> None:
    assert victims
    for victim in victims:
        victim.kill()


def everywhere(site: RigSite, mark: str) -> list[psutil.Process]:
    return [each for host in range(3) for each in site.find(host, mark)]


def kill_worker(site: RigSite) -> None:
    wait_for(lambda: everywhere(site, "PoolWorker"), "a worker of Ray")
    end(everywhere(site, "PoolWorker")[:1])


def kill_raylet(site: RigSite) -> None:
    end(site.find(2, "/raylet/raylet"))


def kill_relay(site: RigSite) -> None:
    end(site.find(1, "Relay"))


def kill_driver(site: RigSite) -> None:
    wait_for(lambda: everywhere(site, "PoolWorker"), "a worker of Ray")
    end(everywhere(site, "ray.pool_driver"))


def kill_gcs(site: RigSite) -> None:
    end(site.find(0, "gcs_server"))


def kill_head(site: RigSite) -> None:
    site.kill(0)
    site.up()


CHEAPEST = [kill_worker]


@pytest.mark.parametrize(
    "strike",
    [*CHEAPEST, *([kill_driver, kill_raylet, kill_relay, kill_gcs, kill_head] if LONG else [])],
    ids=lambda f: f.__name__,
)
def test_a_running_program_ends_with_its_result(
    site: RigSite, signer: Any, tmp_path: Path, strike: Callable[[RigSite], None]
) -> None:
    numbers = list(range(CALLS))
    running = Program(site, signer, tmp_path, sum_of_squares, numbers, sandbox="none")
    running.wait_under_way()
    strike(site)
    assert running.result() == sum(x * x for x in numbers)
    assert site.job(running.job)["attempt"] == 1


def test_nothing_of_a_program_is_left(site: RigSite) -> None:
    wait_for(
        lambda: not (everywhere(site, "PoolWorker") or everywhere(site, "pool_driver")),
        "workers and drivers to be gone",
    )
    for host in (2, 1, 0):
        site.stop(host)
    assert site.left() == {}
    assert not any((site.home(host) / "pool.json").exists() for host in range(3))
