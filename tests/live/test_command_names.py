"""What begins with a name of the site's own runs, and so does every command that a log of 0.1 holds instead."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mycelium as my
from mycelium.client import program
from mycelium.client.site import Client
from mycelium.polymer.container import pmr, values
from mycelium.polymer.forms.seal import seal
from tests.live.site import LiveSite, site_at


@my.kernel
def double(x: int) -> int:
    return 2 * x


@my.program
def doubled(xs: list[int]) -> list[int]:
    return my.map(double, xs)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSite]:
    with site_at(tmp_path_factory.mktemp("names") / "home", 2) as site:
        yield site.up()


def client(site: LiveSite) -> Client:
    return Client(str(site.http.base_url).rstrip("/"), (site.home / "tokens" / "admin").read_text().strip())


@pytest.mark.parametrize(
    "words",
    [
        ("myc:program",),
        ("python3", "-P", "-m", "mycelium.engine.program"),
        ("python3", "-P", "-m", "mycelium.programs"),
    ],
)
def test_a_program_is_run_by_whatever_word_its_job_holds(
    site: LiveSite, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """As the step of a program finds it: a container and its inputs in the directory, a result to keep."""
    (tmp_path / "program.pmr").write_bytes(pmr.pack(seal(doubled.module)))
    (tmp_path / "input.pmv").write_bytes(values.pack(doubled.named([[1, 2, 3]])))
    run = [sys.executable, "-m", "mycelium.cli.main", "run", "--outputs=result.pmv", "--cpus=1", "--", *words]
    done = subprocess.run(run, env=site.env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    job = site.get("/jobs", all=True, limit=1)["jobs"][0]
    assert program.fetch(client(site), job["id"]) == [2, 4, 6]


def test_a_name_says_nothing_to_a_step_that_leads_its_path_elsewhere(site: LiveSite) -> None:
    """Nodes know what to run: it is no program that is looked for."""
    job = site.submit("myc:mpi", env={"PATH": "/nowhere"}, cpus=0.5)
    assert site.wait(job)["exit_code"] != 127, site.story(job)


@pytest.mark.parametrize("words", [("myc:mpi",), ("python3", "-m", "mycelium.engine.gang")])
def test_a_gang_is_led_by_whatever_word_its_job_holds(site: LiveSite, words: tuple[str, ...]) -> None:
    said = "wc -l < $OMPI_MCA_orte_default_hostfile; echo $MYC_NODE_RANK of $MYC_NODE_COUNT"
    job = site.submit(*words, "sh", "-c", said, nodes=2, net=True, cpus=0.5, memory="256M")
    assert site.wait(job)["state"] == "done", site.story(job)
    shown = subprocess.run(
        [sys.executable, "-m", "mycelium.cli.main", "logs", job],
        env=site.env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert [line.rpartition(" | ")[2].strip() for line in shown.splitlines()] == ["2", "0 of 2"], shown
    assert site.get(f"/jobs/{job}")["command"][: len(words)] == list(words)
