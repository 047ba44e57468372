"""A real site for tests: `myc up` in a process of its own, in a home of its own, and plain HTTP to talk to it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

WAIT_S = 60.0  # for what a test waits for; a slow machine is slow, and only a hang is an error


class LiveSite:
    """A site that a test starts, kills, and starts again."""

    def __init__(self, home: Path, nodes: int = 2, **env: str) -> None:
        self.home = home
        self.nodes = nodes
        self.env = {**os.environ, "MYC_HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"), **env}
        self.process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(timeout=30)

    def up(self, *words: str, nodes: bool = True) -> LiveSite:
        """Start it. `nodes`: say how many; without, it has as many as before."""
        said = [f"--nodes={self.nodes}"] if nodes else []
        command = [sys.executable, "-m", "mycelium.cli.main", "up", "--port=0", *said, *words]
        with (self.home.parent / f"{self.home.name}.log").open("ab") as output:
            self.process = subprocess.Popen(command, env=self.env, stdout=output, stderr=output, cwd="/")
        pid = self.process.pid
        wait_for(lambda: self._site_file().get("pid") == pid or self._ended(), "the site to be ready")
        self._ended()
        url, token = self._site_file()["url"], (self.home / "tokens" / "admin").read_text().strip()
        self.http = httpx.Client(base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=30)
        wait_for(lambda: self.get("/status")["nodes"].get("up") == self.nodes, "the nodes to be up")
        return self

    def _site_file(self) -> dict[str, Any]:
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            return json.loads((self.home / "site.json").read_text())
        return {}

    def _ended(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the site ended with {self.process.returncode}: {self.said()}")
        return False

    def said(self) -> str:
        return (self.home.parent / f"{self.home.name}.log").read_text()[-4000:]

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL to the head alone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def down(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(WAIT_S)

    def get(self, path: str, **params: Any) -> Any:
        return checked(self.http.get(path, params=params))

    def post(self, path: str, document: Any = None, **headers: str) -> Any:
        return checked(self.http.post(path, json=document if document is not None else {}, headers=headers))

    def submit(self, *command: str, **keys: Any) -> str:
        return self.post("/jobs", {"command": list(command), **keys})["jobs"][0]["id"]

    def state(self, job: str) -> str:
        return self.get(f"/jobs/{job}")["state"]

    def wait(self, job: str, *states: str) -> dict[str, Any]:
        """Wait until the job is in one of these states (ended, if none is named)."""
        wanted = states or ("done", "failed", "cancelled")
        wait_for(lambda: self.state(job) in wanted, f"{job} to be {' or '.join(wanted)}")
        return self.get(f"/jobs/{job}")

    def story(self, job: str) -> list[str]:
        return [event["says"] for event in self.get(f"/jobs/{job}/story")["story"]]

    def processes(self) -> list[psutil.Process]:
        """Every process of this site: what names its home in its command or environment."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid != os.getpid() and str(self.home) in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def agent(self, node: str) -> psutil.Process:
        """The process of a node's agent."""
        found = [p for p in self.processes() if "mycelium.agent" in " ".join(p.cmdline()) and node in p.cmdline()]
        assert found, f"{node} has no agent"
        return found[0]

    def end(self) -> None:
        """Leave nothing behind, whatever the test did."""
        self.http.close()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        if self.process is not None:
            self.process.wait()


def checked(response: httpx.Response) -> Any:
    assert response.is_success, f"{response.status_code}: {response.text[:2000]}"
    return response.json()


def wait_for(true: Callable[[], Any], what: str) -> None:
    until = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < until, f"waited {WAIT_S:.0f}s for {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def site_at(home: Path, nodes: int = 2, **env: str) -> Iterator[LiveSite]:
    site = LiveSite(home, nodes, **env)
    try:
        yield site
    finally:
        site.end()
