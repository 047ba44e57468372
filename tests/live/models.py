"""A site with a real model for tests: fetched once, served by replicas, asked with the official client."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from fcntl import LOCK_EX, flock
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from mycelium.base.errors import Problem
from mycelium.cli.models.model import bring
from mycelium.client.fetch import fetch
from mycelium.client.site import Client
from mycelium.inference.catalogue import KNOWN, LocalFile, ModelSource
from tests.live.site import LiveSite, wait_for

MODEL = "smollm2-135m"
CACHE = Path(tempfile.gettempdir()) / "mycelium-test-models"


EMBEDDER = "minilm-l6-v2"


def weights(name: str = MODEL) -> Path:
    """The weights of a known model, fetched once for all tests of a machine. Skips where they cannot be had."""
    if find_spec("xllamacpp") is None:
        pytest.skip("the extra 'llm' is not installed")
    known = KNOWN[name]
    CACHE.mkdir(exist_ok=True)
    path = CACHE / f"{known.digest}.gguf"
    with (CACHE / "lock").open("w") as lock:
        flock(lock, LOCK_EX)
        if not path.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
                try:
                    found = fetch(known, Path(scratch), lambda so_far, total: None)
                except Problem as problem:
                    pytest.skip(f"the model cannot be had: {problem}")
                found.rename(path)
    return path


def pull(site: LiveSite, model: str = MODEL) -> None:
    """As `myc model pull` does it, from the file that was fetched before."""
    known = KNOWN[model]
    client = Client(str(site.http.base_url), site.http.headers["authorization"].removeprefix("Bearer "))
    bring(client, ModelSource(model, LocalFile(str(weights(model))), known.kind, known.digest, known.size_bytes))


def serve(site: LiveSite, name: str = MODEL, **keys: Any) -> None:
    asked = {"name": name, "model": MODEL, "replicas_min": 1, "context": 512, "parallel": 2, "memory": "700M", **keys}
    site.post("/deployments", asked)
    if not keys.get("upstream"):
        wait_for(lambda: ready(site, name) >= asked["replicas_min"], "the replicas to be ready")
    wait_for(lambda: gateway_url(site), "the gateway to answer")


def deployment(site: LiveSite, name: str = MODEL) -> dict[str, Any]:
    return site.get(f"/deployments/{name}")


def ready(site: LiveSite, name: str = MODEL) -> int:
    return sum(1 for replica in deployment(site, name)["replicas"] if replica["state"] == "ready")


def gateway_url(site: LiveSite) -> str:
    with contextlib.suppress(FileNotFoundError, httpx.HTTPError):
        url = json.loads((site.home / "gateway.json").read_text())["url"]
        if httpx.get(f"{url}/health").is_success:
            return url
    return ""


def key(site: LiveSite, **limits: Any) -> str:
    """A new key, once the gateway knows it."""
    secret = site.post("/keys", {"name": "test", **limits})["key"]
    headers = {"authorization": f"Bearer {secret}"}
    wait_for(lambda: httpx.get(f"{gateway_url(site)}/v1/models", headers=headers).is_success, "the key to be known")
    return secret


def kill_replica(site: LiveSite, job: str) -> None:
    """SIGKILL to the process that answers, from outside."""
    for step in (site.home / "nodes").glob(f"*/steps/{job}-*"):
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            shim = psutil.Process(json.loads((step / "pid").read_text())["pid"])
            for process in shim.children(recursive=True):
                if "replica.py" in process.cmdline():
                    os.kill(process.pid, signal.SIGKILL)


def busy_replica(site: LiveSite, name: str = MODEL) -> str:
    """The job of a replica that works on something."""
    found: list[str] = []

    def look() -> bool:
        found[:] = [replica["job"] for replica in deployment(site, name)["replicas"] if replica["active"]]
        return bool(found)

    wait_for(look, "a replica to work")
    return found[0]


@contextlib.contextmanager
def served(site: LiveSite, **keys: Any) -> Iterator[LiveSite]:
    pull(site)
    serve(site, **keys)
    yield site
