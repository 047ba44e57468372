"""Many machines on Ray: joining, losing and finding nodes, moving directories, and what Ray costs beside one machine.

`python -m bench.ray` makes three hosts of network namespaces on this machine (root, iproute2): all of their processes
share its cpus, so times in which Ray starts are those of a crowded machine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from bench.row import Row, show
from mycelium.base.limits import NODE_LOST_S
from tests.live.rig.net import processes
from tests.live.rig.site import RigSite, rig_site
from tests.live.site import site_at, wait_for

MIB = 1 << 20
CARRIERS = ("mycelium.agent", "carry.porter")


def run(small: bool) -> list[Row]:
    """All figures. Small: a minute, to see that it works."""
    root = Path(tempfile.mkdtemp(prefix="myc-bench-"))
    try:
        with site_at(root / "local", nodes=2) as local:
            local.up()
            alone_ms = latency(local, 5 if small else 50)
        with rig_site(root / "rig", 3) as site:
            site.up()
            rows = [joining(site, 1), joining(site, 2)][-1:]
            rows.append(costs(site, alone_ms, 5 if small else 50))
            rows.append(array(site, 20 if small else 300))
            rows.append(directory(site, root, (16 if small else 504) * MIB))
            rows.append(killed(site))
            if not small:
                rows.append(cut_off(site))
            rows.append(memory(site))
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return rows


def joining(site: RigSite, host: int) -> Row:
    """From `myc join` with a one-time token to the end of the first job on the node."""
    token = site.root / f"token{host}"
    token.write_text(site.myc("node", "invite").stdout)
    begun = time.perf_counter()
    site.join(host, f"--label=number{host}", token_file=str(token))
    wait_for(lambda: site.state(f"host{host}") == "up", "the host to be up")
    site.wait(site.submit("true", on=f"number{host}"))
    passed_s = time.perf_counter() - begun
    return Row("`myc join` to the end of the first job there", passed_s, "s", 10, "less")


def latency(site: Any, count: int) -> float:
    """Submit to done of one job that does nothing, median, without the sandbox."""
    passed_ms: list[float] = []
    for _ in range(count):
        begun = time.perf_counter()
        job = site.post("/jobs", {"command": ["true"], "sandbox": "none"})["jobs"][0]["id"]
        while site.get(f"/jobs/{job}")["state"] != "done":
            time.sleep(0.002)
        passed_ms.append((time.perf_counter() - begun) * 1000)
    return statistics.median(passed_ms)


def costs(site: RigSite, alone_ms: float, count: int) -> Row:
    return Row(
        "one no-op job, submit to done (p50)",
        latency(site, count),
        "ms",
        peers=f"the local engine, same run: {alone_ms:.0f} ms",
        bound="two calls of an actor: 2 ms",
    )


def array(site: RigSite, count: int) -> Row:
    begun = time.perf_counter()
    job = site.submit("true", array=f"0-{count - 1}", cpus=0.5)
    wait_for(lambda: site.job(job)["state"] == "done" or time.sleep(0.1), "the array to be done")
    rate = count / (time.perf_counter() - begun)
    return Row(f"array of {count} no-op jobs over three hosts", rate, "jobs/s", 40)


def directory(site: RigSite, root: Path, size_bytes: int) -> Row:
    """One directory to two hosts that do not have it; the third is the head's own and has it."""
    work = root / "work"
    work.mkdir()
    for number in range(8):
        (work / f"part{number}").write_bytes(os.urandom(size_bytes // 8))
    one_stream = stream(site, min(size_bytes, 512 * MIB))
    site.myc("run", "--sandbox=none", "--on=!edge", "--", "true", cwd=str(work))  # uploads it; no other host has it yet
    uploaded = site.get("/jobs?all=true&limit=1")["jobs"][0]["id"]
    workdir = site.job(uploaded)["request"]["workdir"]
    carriers = [each for host in range(3) for mark in CARRIERS for each in site.find(host, mark)]
    begun, used_s = time.perf_counter(), _cpu_s(carriers)
    site.wait(site.submit("true", nodes=2, on="edge", workdir=workdir))
    rate = 2 * size_bytes / MIB / (time.perf_counter() - begun)
    bound = 2 * size_bytes / MIB / (_cpu_s(carriers) - used_s) * len(os.sched_getaffinity(0))
    return Row(
        f"a directory of {size_bytes // MIB} MiB to two hosts at once, until the job has ended there (sum)",
        rate,
        "MiB/s",
        one_stream / 2,
        peers=f"one TCP stream, no disk and no hash, same run: {one_stream:,.0f} MiB/s",
        bound=f"{bound:,.0f} MiB/s, were all cpus busy with nothing else: each byte is hashed and written twice there",
        note="three hosts share one disk and two cpus",
    )


def _cpu_s(processes: list[psutil.Process]) -> float:
    return sum(each.cpu_times().user + each.cpu_times().system for each in processes)


def stream(site: RigSite, size_bytes: int) -> float:
    """MiB/s of one TCP stream from the head's host to another."""
    place = f"({site.net.address(0)!r}, 9999)"
    send = f"import socket\nc, _ = socket.create_server({place}).accept()\nb = bytes(1 << 20)\n"
    send += f"for _ in range({size_bytes >> 20}): c.sendall(b)\n"
    take = f"import socket, time\ntime.sleep(0.5)\nc = socket.create_connection({place})\nb = bytearray(1 << 20)\n"
    take += "t = time.perf_counter(); n = 0\nwhile (m := c.recv_into(b)): n += m\n"
    take += "print(n / (1 << 20) / (time.perf_counter() - t))\n"
    sender = subprocess.Popen(site.net.inside(0, sys.executable, "-c", send))
    took = subprocess.run(site.net.inside(1, sys.executable, "-c", take), capture_output=True, text=True, check=True)
    sender.wait()
    return float(took.stdout)


def killed(site: RigSite) -> Row:
    """SIGKILL to all that runs on a host: `myc join`, agent, steps, Ray."""
    job = site.submit("sh", "-c", "test $MYC_ATTEMPT != 1 || sleep 600", on="number1")
    site.wait(job, "running")
    begun = time.perf_counter()
    site.kill_all(1)
    wait_for(lambda: site.job(job)["attempt"] == 2 or _again(site, job), "the job to be queued again")
    passed_s = time.perf_counter() - begun
    site.join(1, "--label=number1")
    site.wait(job)
    return Row("kill -9 of a node's processes to its job queued again", passed_s, "s", 5, "less")


def cut_off(site: RigSite) -> Row:
    job = site.submit("sh", "-c", "test $MYC_ATTEMPT != 1 || sleep 600", on="edge")
    node = site.wait(job, "running")["nodes"][0]
    host = int(site.nodes()[node]["name"].removeprefix("host"))
    begun = time.perf_counter()
    site.net.pull(host)
    wait_for(lambda: _again(site, job), "the job to be queued again")
    passed_s = time.perf_counter() - begun
    site.net.plug(host)
    site.wait(job)
    wait_for(lambda: site.state(node) == "up", "the node to be back")
    return Row("a pulled cable to the job queued again", passed_s, "s", NODE_LOST_S + 2, "less")


def _again(site: RigSite, job: str) -> bool:
    return any("queued again" in said for said in site.story(job))


def memory(site: RigSite) -> Row:
    """What the head's machine holds for the site, and what each of the others does."""
    each = [_held(site, host) for host in range(3)]
    return Row(
        "memory of a node that joined: agent, porter, raylet, relay, `myc join`",
        statistics.mean(each[1:]) / MIB,
        "MiB",
        better="less",
        peers=f"head with its own node: {each[0] / MIB:,.0f} MiB",
        note="proportional shares (PSS)",
    )


def _held(site: RigSite, host: int) -> int:
    total = 0
    for pid in processes(site.net.hosts[host]):
        with contextlib.suppress(psutil.Error):
            total += psutil.Process(pid).memory_full_info().pss
    return total


if __name__ == "__main__":
    show("many machines", run(small="--small" in sys.argv))
