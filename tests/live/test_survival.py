"""What a site survives: kills of its head, its agents and its steps; and what it refuses rather than break."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.live.disk import needs_root, small_disk
from tests.live.site import LiveSite, site_at, wait_for

KILLS = 10
SUBMITS = 300


def test_every_submit_that_was_answered_survives_kills_of_the_head_and_none_is_there_twice(tmp_path: Path) -> None:
    chance = random.Random(7)
    with site_at(tmp_path / "home") as site:
        site.up()
        blocker = site.submit("sleep", "600")  # the others wait behind it, so the ten starts are quick
        answered: dict[str, str] = {}
        for round_ in range(KILLS):
            _submit_and_kill(site, blocker, round_, answered, chance.uniform(0.05, 0.6))
            site.up()
        keys = [f"{round_}-{number}" for round_ in range(KILLS) for number in range(SUBMITS // KILLS)]
        for key in keys:  # what was not answered is sent again with its key, as the client does
            answered.setdefault(key, _send(site.http, blocker, key))
            assert _send(site.http, blocker, key) == answered[key]
        names = [job["name"] for job in site.get("/jobs", all=True, limit=1000)["jobs"] if job["id"] != blocker]
        assert sorted(names) == sorted(keys)
        assert len(set(answered.values())) == SUBMITS
        assert site.get("/audit")["ok"]


def _send(http: httpx.Client, after: str, key: str) -> str:
    document = {"command": ["true"], "name": key, "after": [after]}
    answer = http.post("/jobs", json=document, headers={"Idempotency-Key": key})
    assert answer.status_code == 201, answer.text
    return answer.json()["jobs"][0]["id"]


def _submit_and_kill(site: LiveSite, after: str, round_: int, answered: dict[str, str], wait_s: float) -> None:
    """Submit from one thread while the head is killed at a moment of chance."""

    def submit() -> None:
        for number in range(SUBMITS // KILLS):
            key = f"{round_}-{number}"
            try:
                answered[key] = _send(site.http, after, key)
            except httpx.HTTPError:
                return
            time.sleep(0.005)

    thread = threading.Thread(target=submit)
    thread.start()
    time.sleep(wait_s * 0.3)
    site.kill()
    thread.join()


def test_running_jobs_go_on_while_the_head_is_down_and_are_picked_up(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    with site_at(tmp_path / "home") as site:
        site.up()
        script = "echo began; for i in $(seq 8); do sleep 0.25; done; echo ended; exit 4"
        job = site.submit("sh", "-c", script, outputs=["*"])
        site.wait(job, "running")
        before = {p.pid for p in site.processes()} - {site.pid}
        site.kill()
        marks.touch()
        time.sleep(3)  # it ends while nobody listens
        assert before & {p.pid for p in site.processes()}
        site.up()
        ended = site.wait(job)
        assert (ended["state"], ended["exit_code"], ended["attempt"]) == ("failed", 4, 1)


def test_the_steps_of_a_killed_agent_go_on_and_are_adopted(site: LiveSite) -> None:
    job = site.submit("sh", "-c", "sleep 3; exit 5")
    node = site.wait(job, "running")["nodes"][0]
    agent = site.agent(node)
    agent.kill()
    wait_for(lambda: not agent.is_running() or agent.status() == psutil.STATUS_ZOMBIE, "the agent to be gone")
    ended = site.wait(job)
    assert (ended["state"], ended["exit_code"], ended["attempt"]) == ("failed", 5, 1)


def test_when_an_agent_and_its_steps_are_killed_the_job_runs_again_as_the_next_attempt(site: LiveSite) -> None:
    job = site.submit("sh", "-c", "test $MYC_ATTEMPT = 2 || sleep 600")
    node = site.wait(job, "running")["nodes"][0]
    agent = site.agent(node)
    doomed = [p for p in site.processes() if f"/nodes/{node}/" in " ".join(p.cmdline())]
    for process in [agent, *agent.children(recursive=True), *doomed]:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    _kill_step(site, node, job)
    ended = site.wait(job)
    assert (ended["state"], ended["attempt"]) == ("done", 2)
    assert any("queued again as attempt 2" in said for said in site.story(job))


def _kill_step(site: LiveSite, node: str, job: str) -> None:
    """SIGKILL to the shim of the first attempt, by the pid it left in its directory."""
    path = site.home / "nodes" / node / "steps" / f"{job}-a1-r0" / "pid"
    if path.exists():
        pid = json.loads(path.read_text())["pid"]
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)


def test_a_frozen_agent_is_suspect_then_lost_and_its_late_report_commits_nothing(tmp_path: Path) -> None:
    with site_at(tmp_path / "home", 2, MYC_NODE_LOST_S="2", MYC_NODE_SUSPECT_S="1") as site:
        site.up()
        job = site.submit("sh", "-c", "test $MYC_ATTEMPT = 2 && exec sleep 6; sleep 4; exit 9", outputs=["*"])
        node = site.wait(job, "running")["nodes"][0]
        agent = site.agent(node)
        agent.suspend()
        try:
            wait_for(lambda: site.get(f"/jobs/{job}")["attempt"] == 2, "the job to be queued again")
            wait_for(lambda: site.get(f"/nodes/{node}")["state"] == "lost", "the node to be lost")
            time.sleep(3)  # the old attempt ends meanwhile, unheard
        finally:
            agent.resume()
        ended = site.wait(job)
        assert (ended["state"], ended["exit_code"], ended["attempt"]) == ("done", 0, 2)
        wait_for(lambda: site.get(f"/nodes/{node}")["state"] == "up", "the node to be back")
        assert sum("was committed" in said for said in site.story(job)) == 1


def test_a_second_head_on_the_same_home_is_refused(site: LiveSite) -> None:
    second = subprocess.run(
        [sys.executable, "-c", _RUN_HEAD, str(site.home)],
        env=site.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode != 0
    assert "another head" in second.stderr
    assert site.get("/status")["nodes"]["up"] == 2


_RUN_HEAD = """
import sys, pathlib
from mycelium.head.settings import SiteSettings
from mycelium.serve.site import run
run(SiteSettings(pathlib.Path(sys.argv[1])))
"""


def test_an_unknown_version_of_the_log_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    with site_at(tmp_path / "home") as site:
        site.up()
        site.down()
        with sqlite3.connect(site.home / "site.db") as database:
            database.execute("update meta set value = '999' where key = 'format'")
        with pytest.raises(AssertionError, match="format 999"):
            site.up()
        with sqlite3.connect(site.home / "site.db") as database:
            assert database.execute("select value from meta where key = 'format'").fetchone() == ("999",)


def test_a_log_that_cannot_be_written_stops_the_head_and_loses_nothing(tmp_path: Path) -> None:
    with site_at(tmp_path / "home") as site:
        site.up()
        kept = site.submit("true")
        site.wait(kept)
        with sqlite3.connect(site.home / "site.db") as database:
            database.execute("create trigger refuse before insert on event begin select raise(abort, 'broken'); end")
        answered = site.http.post("/jobs", json={"command": ["true"]})
        assert (answered.status_code, answered.json()["error"]["kind"]) == (503, "unavailable")
        assert site.process is not None
        assert site.process.wait(30) == 7
        with sqlite3.connect(site.home / "site.db") as database:
            database.execute("drop trigger refuse")
        site.up()
        assert site.state(kept) == "done"
        assert len(site.get("/jobs", all=True)["jobs"]) == 1


@needs_root
def test_a_full_disk_refuses_new_jobs_with_the_figure_and_loses_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 300) as disk, site_at(disk / "home") as site:
        site.up()
        kept = site.submit("sh", "-c", "sleep 2; echo kept")
        site.wait(kept, "running")
        (disk / "filler").write_bytes(b"x" * (100 << 20))
        answered = site.http.post("/jobs", json={"command": ["true"]})
        assert (answered.status_code, answered.json()["error"]["kind"]) == (503, "unavailable")
        assert "left; the site needs 256M" in answered.json()["error"]["message"]
        assert site.wait(kept)["state"] == "done"
        (disk / "filler").unlink()
        assert site.wait(site.submit("true"))["state"] == "done"


def test_down_stops_what_runs_and_up_starts_it_again(tmp_path: Path) -> None:
    with site_at(tmp_path / "home") as site:
        site.up()
        job = site.submit("sh", "-c", "test $MYC_ATTEMPT = 2 || sleep 600")
        site.wait(job, "running")
        site.down()
        assert site.processes() == []
        site.up(nodes=False)  # as many nodes as before
        ended = site.wait(job)
        assert (ended["state"], ended["attempt"]) == ("done", 2)
