"""LiteLLM's proxy: measured in a throw-away environment when `--peers` is given, else as it says of itself.

It runs without its database: no keys of its own, no limits, no metering, so it has less to do than we have.
Never: installs anything into the project's own environment, or fails a benchmark.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from bench.alone import doing
from bench.inference_load import drive, request
from bench.peers import wanted

INSTALL_S_MAX = 300
START_S_MAX = 90
KEY = "sk-bench"


@dataclass(frozen=True)
class LiteLlm:
    source: str
    per_s: float
    p50_ms: float
    p99_ms: float

    @property
    def measured(self) -> bool:
        return not self.source

    def said(self, what: str) -> str:
        return f"{self.source}LiteLLM {what}"


PUBLISHED = LiteLlm("published, on 2 x (4 cpus, 8 GB): ", 1036, 12, 43)


def litellm(folder: Path, slow_port: int, fast_port: int, direct_ms: tuple[float, float], seconds: float) -> LiteLlm:
    """Its overhead over the slow model and its rate over the fast one, where that is wanted and possible."""
    if not wanted():
        return PUBLISHED
    try:
        program = _install(folder)
        port = _free_port()
        models = [("slow", slow_port), ("fast", fast_port)]
        with (folder / "litellm.log").open("wb") as log:
            proxy = subprocess.Popen(
                [str(program), "--config", str(_config(folder, models)), "--port", str(port), "--num_workers", "1"],
                stdout=log,
                stderr=log,
                env={**os.environ, "LITELLM_LOG": "ERROR", "NO_PROXY": "127.0.0.1"},
            )
        try:
            _wait(port)
            doing("LiteLLM")
            path = "/v1/chat/completions"
            asyncio.run(drive(port, request(path, KEY, "fast"), 8, 1.0))
            slow = asyncio.run(drive(port, request(path, KEY, "slow"), 64, seconds, 0.2))
            fast = asyncio.run(drive(port, request(path, KEY, "fast"), 64, seconds))
        finally:
            proxy.kill()
            proxy.wait()
        return LiteLlm("", fast.per_s, slow.at(0.5) - direct_ms[0], slow.at(0.99) - direct_ms[1])
    except (OSError, subprocess.SubprocessError, ValueError, RuntimeError, TimeoutError) as error:
        return LiteLlm(f"cannot be had now ({type(error).__name__}); published: ", 1036, 12, 43)


def _install(folder: Path) -> Path:
    uv = shutil.which("uv")
    if uv is None:
        raise OSError("uv is not here")
    doing("installing LiteLLM")
    subprocess.run([uv, "venv", "--quiet", "--python", "3.11", str(folder / "env")], check=True, timeout=60)
    words = [uv, "pip", "install", "--quiet", "--python", str(folder / "env/bin/python"), "litellm[proxy]"]
    subprocess.run(words, check=True, timeout=INSTALL_S_MAX, capture_output=True)
    return folder / "env/bin/litellm"


def _config(folder: Path, models: list[tuple[str, int]]) -> Path:
    rows = [
        {
            "model_name": name,
            "litellm_params": {
                "model": f"openai/{name}",
                "api_base": f"http://127.0.0.1:{port}/v1",
                "api_key": "none",
            },
        }
        for name, port in models
    ]
    path = folder / "config.yaml"  # JSON is YAML
    path.write_text(json.dumps({"model_list": rows, "general_settings": {"master_key": KEY}}))
    return path


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]


def _wait(port: int) -> None:
    until = time.monotonic() + START_S_MAX
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/liveliness", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise TimeoutError
