"""What the gateway adds to a request, and how little one key's flood costs another.

`python -m bench.inference [--peers]`. Measured against a pretended model that answers at once or after 200 ms, with a
key that has limits, over 64 connections. Each round asks the model directly, through the gateway, and through a process
that only copies bytes, one after another, so that whatever else the machine does falls on all three. LiteLLM's proxy
stands before the same model in the same run.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

import psutil

from bench.alone import alone, doing
from bench.inference_load import Copier, Load, Model, drive, pooled, request
from bench.inference_site import PATH, Site
from bench.peers.litellm import litellm
from bench.row import Row

CONNECTIONS = 64
SLOW_S = 0.2
ROUNDS = 4


def overhead(site: Site, folder: Path, seconds: float, rounds: int) -> list[Row]:
    """What the gateway adds, at five requests a second on each connection, and how many it can pass on."""
    with Model(SLOW_S) as slow, Model(0.0) as fast, Copier(slow.port) as copier:
        for name, model in (("slow", slow), ("fast", fast)):
            site.deploy(name, upstream=f"http://127.0.0.1:{model.port}/v1", parallel=512)
        key = site.key()
        gateway = psutil.Process(json.loads((site.home / "gateway.json").read_text())["pid"])
        direct: list[Load] = []
        through: list[Load] = []
        copied: list[Load] = []
        ours: list[Load] = []
        used_s = 0.0
        for number in range(rounds):
            doing(f"directly and through the gateway, round {number + 1} of {rounds}")
            for port, found in ((slow.port, direct), (site.port(), through), (copier.port, copied)):
                found.append(asyncio.run(drive(port, request(PATH, key, "slow"), CONNECTIONS, seconds, SLOW_S)))
            before_s = _cpu_s(gateway)
            ours.append(asyncio.run(drive(site.port(), request(PATH, key, "fast"), CONNECTIONS, seconds)))
            used_s += _cpu_s(gateway) - before_s
        most = asyncio.run(drive(fast.port, request(PATH, key, "fast"), CONNECTIONS, seconds))
        straight, whole, bare, rate = pooled(direct), pooled(through), pooled(copied), pooled(ours)
        at = (straight.at(0.5), straight.at(0.99))
        peer = litellm(folder, slow.port, fast.port, at, seconds * rounds / 2)
    p50_ms, p99_ms = whole.at(0.5) - at[0], whole.at(0.99) - at[1]
    only = "a process that only copies the bytes adds"
    rows = [
        Row(
            "the gateway adds, p50",
            p50_ms,
            "ms",
            2.0,
            "less",
            peer.said(f"{peer.p50_ms:.1f} ms"),
            f"{only} {bare.at(0.5) - at[0]:.2f} ms",
        ),
        Row(
            "the gateway adds, p99",
            p99_ms,
            "ms",
            13.0,
            "less",
            peer.said(f"{peer.p99_ms:.0f} ms"),
            f"{only} {bare.at(0.99) - at[1]:.2f} ms",
        ),
        Row(
            "requests through one gateway",
            rate.per_s,
            "/s",
            None,
            "more",
            peer.said(f"{peer.per_s:,.0f}/s"),
            f"the client and the model alone: {most.per_s:,.0f}/s",
        ),
        Row("processor time of the gateway for one of these", used_s / len(rate.latencies_ms) * 1e6, "us"),
    ]
    if peer.measured:
        rows.append(Row("LiteLLM's requests per second", rate.per_s / peer.per_s, "times", 5.0, "more"))
    return rows


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def fairness(site: Site, seconds: float, rounds: int) -> Row:
    """One key asks over 64 connections as fast as it can; another asks once at a time. There are eight places."""
    doing("a flood from one key")
    with Model(0.02) as model:
        site.deploy("narrow", upstream=f"http://127.0.0.1:{model.port}/v1", parallel=8)
        flooding, calm = site.key(), site.key()
        wire = request(PATH, calm, "narrow")

        async def both() -> tuple[Load, Load]:
            flood = drive(site.port(), request(PATH, flooding, "narrow"), CONNECTIONS, seconds + 0.5)
            single = drive(site.port(), wire, 1, seconds, 0.2)
            return await asyncio.gather(flood, single)

        quiet: list[Load] = []
        beside: list[tuple[Load, Load]] = []
        for _ in range(rounds):
            quiet.append(asyncio.run(drive(site.port(), wire, 1, seconds)))
            beside.append(asyncio.run(both()))
    alone_ms = pooled(quiet).at(0.5)
    flood, single = pooled([one for one, _ in beside]), pooled([one for _, one in beside])
    note = f"{alone_ms:.0f} ms alone, {single.at(0.5):.0f} ms beside the flood, whose own p50 is {flood.at(0.5):.0f} ms"
    return Row("a key's p50 beside another's flood", single.at(0.5) / alone_ms, "times", 1.5, "less", note=note)


def run(small: bool = False) -> list[Row]:
    """All figures. Small: a second instead of half a minute."""
    seconds, rounds = (0.5, 1) if small else (2.0, ROUNDS)
    with tempfile.TemporaryDirectory(prefix="myc-bench-") as name:
        folder = Path(name)
        with Site(folder) as site:
            return [*overhead(site, folder, seconds, rounds), fairness(site, seconds / 2, rounds)]


if __name__ == "__main__":
    alone("the gateway before language models", run)
