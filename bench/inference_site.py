"""What the benchmarks of language models stand on: a site of its own, and two replicas of a small real model on it."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.alone import doing
from mycelium.base.errors import Problem
from mycelium.cli.models.model import bring
from mycelium.client.site import Client
from mycelium.inference.catalogue import KNOWN

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


# A real model.


@dataclass(frozen=True)
class Served:
    """Two replicas of the small model, one cpu each. `http` asks the gateway."""

    site: Site
    http: httpx.Client

    def sockets(self) -> list[Path]:
        return sorted(self.site.home.glob("nodes/*/steps/*/work/replica.sock"))


@contextmanager
def served(folder: Path) -> Iterator[Served | None]:
    """None where the model cannot be had."""
    with Site(folder) as site:
        doing("fetching the model")
        try:
            bring(site.client, KNOWN[MODEL])
        except Problem as problem:
            print(f"without a real model: {problem}", file=sys.stderr)
            yield None
            return
        keys: dict[str, Any] = {"model": MODEL, "replicas_min": 2, "parallel": PARALLEL, "context": 512, "cpus": "1"}
        site.deploy(MODEL, **keys)
        with site.http(site.key()) as http:
            yield Served(site, http)


def body(number: int, tokens: int = TOKENS) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Write one sentence about the number {number}."}]
    return {"model": MODEL, "messages": messages, "max_tokens": tokens, "temperature": 0.8, "seed": number}


def submit(http: httpx.Client, numbers: range) -> str:
    asked = [
        json.dumps({"custom_id": str(number), "method": "POST", "url": PATH, "body": body(number)})
        for number in numbers
    ]
    files = {"file": ("in.jsonl", "\n".join(asked).encode())}
    file = http.post("/v1/files", data={"purpose": "batch"}, files=files).json()["id"]
    made = {"input_file_id": file, "endpoint": PATH, "completion_window": "24h"}
    return http.post("/v1/batches", json=made).json()["id"]


def server_of(path: Path) -> int:
    """The process that listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(path))
        credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return struct.unpack("3i", credentials)[0]


@dataclass(frozen=True)
class Worked:
    """What the thread that computes has had: seconds on a cpu, and seconds in which it waited for one."""

    ran_s: float
    waited_s: float

    def __sub__(self, other: Worked) -> Worked:
        return Worked(self.ran_s - other.ran_s, self.waited_s - other.waited_s)


def worked(process: int) -> Worked:
    """Of the thread of the process that has run longest: what can be compared though others use the machine, too."""
    most = Worked(0.0, 0.0)
    for path in Path(f"/proc/{process}/task").glob("*/schedstat"):
        ran_ns, waited_ns, _ = path.read_text().split()
        most = max(most, Worked(int(ran_ns) / 1e9, int(waited_ns) / 1e9), key=lambda one: one.ran_s)
    return most
