"""What the gateway costs, how fair it is, and how fast batches and first tokens come from a real model.

`python -m bench.inference [--peers]`. Overhead and rate are measured against a pretended model that answers at once or
after 200 ms, with a key that has limits, over 64 connections; LiteLLM's proxy over the same model in the same run.
The real model is SmolLM2 135M; where it cannot be had, its rows are left out.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.alone import alone, doing
from bench.inference_load import Load, Model, drive, request
from bench.peers.litellm import litellm
from bench.row import Row
from mycelium.base.errors import Problem
from mycelium.cli.client import Client
from mycelium.cli.model import bring
from mycelium.inference.catalogue import KNOWN
from mycelium.serve.openai import replica as replica_program

CONNECTIONS = 64
SLOW_S = 0.2
PATH = "/v1/chat/completions"
MODEL = "smollm2-135m"
PARALLEL = 4
TOKENS = 16
WAIT_S = 120.0


class Site:
    """A site of its own, in a fresh directory. Used as a context."""

    def __init__(self, folder: Path, nodes: int = 2) -> None:
        self.home = folder / "home"
        env = {**os.environ, "MYC_HOME": str(self.home), "XDG_CONFIG_HOME": str(folder / "config")}
        words = [sys.executable, "-m", "mycelium.cli.main", "up", "--port=0", f"--nodes={nodes}"]
        with (folder / "site.log").open("wb") as log:
            self._process = subprocess.Popen(words, env=env, stdout=log, stderr=log)
        wait((self.home / "site.json").exists, "the site")
        url = json.loads((self.home / "site.json").read_text())["url"]
        self.client = Client(url, (self.home / "tokens" / "admin").read_text().strip())

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)

    def deploy(self, name: str, **keys: Any) -> None:
        self.client.post("/deployments", {"name": name, **keys})
        wait(self.port, "the gateway")
        least = keys.get("replicas_min", 0)
        wait(lambda: self._ready(name) >= least, "the replicas")

    def _ready(self, name: str) -> int:
        return sum(1 for one in self.client.get(f"/deployments/{name}")["replicas"] if one["state"] == "ready")

    def port(self) -> int:
        path = self.home / "gateway.json"
        return json.loads(path.read_text())["port"] if path.exists() else 0

    def key(self) -> str:
        secret = self.client.post("/keys", {"name": "bench", "rpm": 10**9, "tpm": 10**9})["key"]
        wait(lambda: self.http(secret).get("/v1/models").is_success, "the key")
        return secret

    def http(self, key: str) -> httpx.Client:
        headers = {"authorization": f"Bearer {key}"}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port()}", headers=headers, timeout=WAIT_S)


def wait(true: Any, what: str) -> None:
    until = time.monotonic() + WAIT_S
    while True:
        try:
            if true():
                return
        except (OSError, ValueError, Problem, httpx.HTTPError):
            pass
        if time.monotonic() > until:
            raise TimeoutError(f"waited {WAIT_S:.0f}s for {what}")
        time.sleep(0.05)


# What the gateway costs.


def overhead(site: Site, folder: Path, seconds: float) -> list[Row]:
    with Model(SLOW_S) as slow, Model(0.0) as fast:
        for name, model in (("slow", slow), ("fast", fast)):
            site.deploy(name, upstream=f"http://127.0.0.1:{model.port}/v1", parallel=512)
        key = site.key()
        doing("the pretended model, directly")
        straight = asyncio.run(drive(slow.port, request(PATH, key, "slow"), CONNECTIONS, seconds, SLOW_S))
        most = asyncio.run(drive(fast.port, request(PATH, key, "fast"), CONNECTIONS, seconds / 2))
        doing("through the gateway")
        through = asyncio.run(drive(site.port(), request(PATH, key, "slow"), CONNECTIONS, seconds, SLOW_S))
        ours = asyncio.run(drive(site.port(), request(PATH, key, "fast"), CONNECTIONS, seconds))
        direct = (straight.at(0.5), straight.at(0.99))
        peer = litellm(folder, slow.port, fast.port, direct, seconds)
        fair = fairness(site, key)
    rate = f"the client and the model alone: {most.per_s:,.0f}/s"
    p50_ms, p99_ms = through.at(0.5) - direct[0], through.at(0.99) - direct[1]
    rows = [
        Row("the gateway adds, p50", p50_ms, "ms", 2.0, "less", peer.said(f"{peer.p50_ms:.1f} ms")),
        Row(
            "the gateway adds, p99",
            p99_ms,
            "ms",
            13.0,
            "less",
            peer.said(f"{peer.p99_ms:.0f} ms"),
        ),
        Row("requests through one gateway", ours.per_s, "/s", None, "more", peer.said(f"{peer.per_s:,.0f}/s"), rate),
        fair,
    ]
    if peer.measured:
        rows.append(Row("LiteLLM's requests per second", ours.per_s / peer.per_s, "times", 5.0, "more"))
    return rows


def fairness(site: Site, flooding: str) -> Row:
    """One key asks over 64 connections as fast as it can; another asks once at a time. There are eight places."""
    doing("a flood from one key")
    with Model(0.02) as model:
        site.deploy("narrow", upstream=f"http://127.0.0.1:{model.port}/v1", parallel=8)
        calm = site.key()
        wire = request(PATH, calm, "narrow")
        alone_ms = asyncio.run(drive(site.port(), wire, 1, 1.5)).at(0.5)

        async def both() -> tuple[Load, Load]:
            flood = drive(site.port(), request(PATH, flooding, "narrow"), CONNECTIONS, 2.5)
            single = drive(site.port(), wire, 1, 2.0, 0.2)
            return await asyncio.gather(flood, single)

        flood, single = asyncio.run(both())
    note = f"{alone_ms:.0f} ms alone, {single.at(0.5):.0f} ms beside the flood, whose own p50 is {flood.at(0.5):.0f} ms"
    return Row("a key's p50 beside another's flood", single.at(0.5) / alone_ms, "times", 2.0, "less", note=note)


# What a real model gives.


def real(site: Site, folder: Path, lines: int, probes: int) -> list[Row]:
    doing("fetching the model")
    try:
        bring(site.client, KNOWN[MODEL])
    except Problem as problem:
        print(f"without a real model: {problem}", file=sys.stderr)
        return []
    keys: dict[str, Any] = {"model": MODEL, "replicas_min": 2, "parallel": PARALLEL, "context": 512, "cpus": "1"}
    site.deploy(MODEL, **keys)
    key = site.key()
    with site.http(key) as http:
        doing("first tokens, alone")
        alone_ms = first_tokens(http, probes)
        doing(f"a batch of {lines} lines on two replicas")
        tokens, took_s = batch(http, lines)
        doing("first tokens beside a batch")
        submit(http, lines * 20)
        time.sleep(2.0)
        beside_ms = first_tokens(http, probes)
    site.client.delete(f"/deployments/{MODEL}")
    wait(lambda: site.client.get("/status")["jobs"].get("running", 0) == 0, "the replicas to end")
    doing("the same replicas, driven directly")
    direct_tokens, direct_s = directly(site, folder, lines)
    ours, theirs = tokens / took_s, direct_tokens / direct_s
    bound = f"two llama.cpp servers with {PARALLEL} requests each: {theirs:.0f} tokens/s"
    return [
        Row(f"a batch of {lines} lines on two replicas", ours, "tokens/s", None, "more", bound=bound),
        Row("of what the backend gives directly", ours / theirs, "times", 0.9, "more"),
        Row("first token, idle", statistics.median(alone_ms), "ms"),
        Row(
            "first token beside a batch that fills the idle time, of that",
            statistics.median(beside_ms) / statistics.median(alone_ms),
            "times",
            1.5,
            "less",
            note=f"{statistics.median(beside_ms):.0f} ms",
        ),
    ]


def body(number: int, tokens: int = TOKENS) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Write one sentence about the number {number}."}]
    return {"model": MODEL, "messages": messages, "max_tokens": tokens, "temperature": 0.8, "seed": number}


def first_tokens(http: httpx.Client, count: int) -> list[float]:
    found: list[float] = []
    for number in range(count + 1):
        begun = time.perf_counter()
        with http.stream("POST", PATH, json={**body(100_000 + number, 4), "stream": True}) as reply:
            lines = (line for line in reply.iter_lines() if line.startswith("data:"))
            next(lines)
            found.append((time.perf_counter() - begun) * 1000)
            for _ in lines:
                pass
    return found[1:]


def submit(http: httpx.Client, lines: int) -> str:
    asked = [
        json.dumps({"custom_id": str(number), "method": "POST", "url": PATH, "body": body(number)})
        for number in range(lines)
    ]
    files = {"file": ("in.jsonl", "\n".join(asked).encode())}
    file = http.post("/v1/files", data={"purpose": "batch"}, files=files).json()["id"]
    made = {"input_file_id": file, "endpoint": PATH, "completion_window": "24h"}
    return http.post("/v1/batches", json=made).json()["id"]


def batch(http: httpx.Client, lines: int) -> tuple[int, float]:
    begun = time.perf_counter()
    name = submit(http, lines)
    while True:
        found = http.get(f"/v1/batches/{name}").json()
        if found["status"] == "completed":
            return found["usage"]["output_tokens"], time.perf_counter() - begun
        time.sleep(0.1)


@contextmanager
def two_servers(site: Site, folder: Path) -> Iterator[list[httpx.Client]]:
    """Two replicas without a site around them: the same program, the same settings."""
    digest = KNOWN[MODEL].digest
    weights = site.home / "objects" / digest[:2] / digest[2:]
    processes: list[subprocess.Popen[bytes]] = []
    clients: list[httpx.Client] = []
    try:
        for number in range(2):
            socket = folder / f"r{number}.sock"
            words = [sys.executable, str(Path(replica_program.__file__)), str(weights), str(socket)]
            words += ["--name", MODEL, "--context", "512", "--parallel", str(PARALLEL + 1)]
            with (folder / f"r{number}.log").open("wb") as log:
                processes.append(subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, "MYC_CPUS": "1"}))
            transport = httpx.HTTPTransport(uds=str(socket))
            clients.append(httpx.Client(transport=transport, base_url="http://replica", timeout=WAIT_S))
        for client in clients:
            wait(lambda client=client: client.get("/health").is_success, "a server")
        yield clients
    finally:
        for process in processes:
            process.kill()
            process.wait()


def directly(site: Site, folder: Path, lines: int) -> tuple[int, float]:
    with two_servers(site, folder) as clients, ThreadPoolExecutor(2 * PARALLEL) as pool:
        begun = time.perf_counter()

        def ask(number: int) -> int:
            return clients[number % 2].post(PATH, json=body(number)).json()["usage"]["completion_tokens"]

        tokens = sum(pool.map(ask, range(lines)))
        return tokens, time.perf_counter() - begun


def run(small: bool = False) -> list[Row]:
    """All figures. Small: seconds instead of tens, and a dozen lines."""
    with tempfile.TemporaryDirectory(prefix="myc-bench-") as name:
        folder = Path(name)
        with Site(folder) as site:
            rows = overhead(site, folder, 1.0 if small else 8.0)
            return rows + real(site, folder, 12 if small else 200, 2 if small else 12)


if __name__ == "__main__":
    alone("serving language models", run)
