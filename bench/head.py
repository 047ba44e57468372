"""What a site takes and how fast: submits, arrays, the way from submit to running, restart, memory, the CLI's start.

`python -m bench.head` runs the full size on this machine: a real site, its log on this disk, jobs in the sandbox.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil

from bench.alone import alone, doing
from bench.peers.slurm import Slurm, slurm
from bench.row import Row
from mycelium.base.limits import JOBS_PER_SUBMIT_MAX
from tests.live.site import LiveSite, site_at, wait_for

SLURM_PUBLISHED = "published: 500/s on a large controller"


def run(small: bool) -> list[Row]:
    """All figures. Small: a few seconds, to see that it works."""
    peer = slurm(small)
    home = Path(tempfile.mkdtemp(prefix="myc-bench-"))
    try:
        with site_at(home / "home", nodes=2) as site:
            site.up()
            rows = [latency(site, 5 if small else 50, peer), array(site, 20 if small else 500, peer)]
            rows += submits(site, 50 if small else 3000, peer)
        with site_at(home / "large", nodes=1) as site:
            rows += restart(site, 500 if small else 100_000)
        rows.append(help_time(2 if small else 15))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return rows


def latency(site: LiveSite, count: int, peer: Slurm) -> Row:
    """From just before the request until the step runs, one job at a time."""
    doing("submit to running")
    passed_ms: list[float] = []
    for _ in range(count):
        before_ns = time.time_ns()
        job = site.submit("true")
        site.wait(job)
        event = next(e for e in site.get(f"/jobs/{job}/story")["story"] if e["kind"] == "StepStarted")
        passed_ms.append((event["event"]["started_ns"] - before_ns) / 1e6)
    p50, p99 = statistics.median(passed_ms), sorted(passed_ms)[int(count * 0.99)]
    return Row(
        "submit to running, one job, idle site",
        p50,
        "ms",
        50,
        "less",
        peer.latency,
        "6 ms or so of bubblewrap: see bench.steps",
        f"median; p99 {p99:.0f} ms; through HTTP and a durable log",
    )


def array(site: LiveSite, count: int, peer: Slurm) -> Row:
    doing(f"an array of {count}")
    begun = time.perf_counter()
    job = site.submit("true", array=f"0-{count - 1}", cpus=0.5)
    wait_for(lambda: site.state(job) == "done" or time.sleep(0.1), "the array to be done")
    return Row(
        f"array of {count} no-op jobs, sandboxed",
        count / (time.perf_counter() - begun),
        "jobs/s",
        60,
        peers=f"{peer.array}; {SLURM_PUBLISHED}",
        bound="bubblewrap alone on all cpus: see bench.steps",
        note="each with its own log, directory and sandbox",
    )


def submits(site: LiveSite, count: int, peer: Slurm) -> list[Row]:
    """Jobs that wait behind another, so that only the submit is measured."""
    doing("submits")
    blocker = site.submit("sleep", "3600")
    site.wait(blocker, "running")
    document = {"command": ["true"], "after": [blocker]}
    headers = {"authorization": site.http.headers["authorization"]}
    url = str(site.http.base_url)

    def send(number: int) -> None:
        with httpx.Client(base_url=url, headers=headers, timeout=60) as http:
            for _ in range(number):
                assert http.post("/jobs", json=document).status_code == 201

    begun = time.perf_counter()
    send(count)
    singly = count / (time.perf_counter() - begun)
    begun = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, [count // 8] * 8))
    together = count // 8 * 8 / (time.perf_counter() - begun)
    batch = min(200, count)
    begun = time.perf_counter()
    for _ in range(max(1, count * 3 // batch)):
        site.post("/jobs", {"jobs": [document] * batch})
    batched = max(1, count * 3 // batch) * batch / (time.perf_counter() - begun)
    site.post(f"/jobs/{blocker}/cancel")
    peers = peer.submits
    fsync = f"fsync of this disk {fsyncs():,.0f}/s"
    return [
        Row("durable submits, one request each, one client", singly, "/s", 300, peers=peers, bound=fsync),
        Row("durable submits, one request each, 8 clients", together, "/s", 300, peers=peers, note="client included"),
        Row(f"durable submits in batches of {batch}", batched, "/s", 1000, peers=peers, bound=fsync),
    ]


def fsyncs() -> float:
    """Bare fsyncs of a small write on this disk, a second."""
    with tempfile.NamedTemporaryFile() as file:
        begun = time.perf_counter()
        for _ in range(200):
            file.write(b"x" * 512)
            file.flush()
            os.fsync(file.fileno())
        return 200 / (time.perf_counter() - begun)


def restart(site: LiveSite, count: int) -> list[Row]:
    """A head that holds many queued jobs: its memory, and its start after a kill and after a stop."""
    doing(f"{count:,} queued jobs, restart")
    site.up()
    cpus = int(site.get("/status")["devices"]["total"]["cpus"])
    site.wait(site.submit("sleep", "3600", cpus=cpus, time="2h"), "running")
    documents = [
        {"command": ["true", str(number)], "cpus": 1 + number % cpus, "time": f"{1 + number % 7}h"}
        for number in range(count)
    ]
    for start in range(0, count, JOBS_PER_SUBMIT_MAX):
        site.post("/jobs", {"jobs": documents[start : start + JOBS_PER_SUBMIT_MAX]})
    memory = psutil.Process(site.pid).memory_info().rss
    site.kill()
    killed_s = start_time(site)
    site.down()
    stopped_s = start_time(site)
    return [
        Row(
            f"head's memory with {count:,} queued jobs",
            memory / 2**20,
            "MiB",
            1024,
            "less",
            f"HTCondor, published: under 1 MB a job, {count / 1000:,.3g} GB for these",
        ),
        Row(f"start after SIGKILL with {count:,} queued jobs", killed_s, "s", 5, "less"),
        Row(f"start after `myc down` with {count:,} queued jobs", stopped_s, "s", 5, "less"),
    ]


def start_time(site: LiveSite) -> float:
    begun = time.perf_counter()
    site.up()
    return time.perf_counter() - begun


def help_time(count: int) -> Row:
    doing("myc --help")
    passed: list[float] = []
    for _ in range(count):
        begun = time.perf_counter()
        subprocess.run([Path(sys.executable).with_name("myc"), "--help"], check=True, stdout=subprocess.DEVNULL)
        passed.append((time.perf_counter() - begun) * 1000)
    bare = time.perf_counter()
    subprocess.run([sys.executable, "-c", ""], check=True)
    bound = f"python -c '': {(time.perf_counter() - bare) * 1000:.0f} ms"
    return Row("`myc --help`", statistics.median(passed), "ms", 200, "less", bound=bound)


if __name__ == "__main__":
    alone("the head", run)
