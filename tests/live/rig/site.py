"""A real site over several hosts of the rig: `myc up --engine ray` on the first, `myc join` on the others."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from mycelium.engine.ray.raylet import Raylet, RayletPlace
from mycelium.jobs.program import RESULT_FILE
from mycelium.polymer.container import pmr, values
from mycelium.polymer.forms.seal import seal
from mycelium.polymer.program.graph import Module
from mycelium.sandbox import process
from tests.live.rig.net import Net, empty, processes
from tests.live.site import WAIT_S, wait_for

MYC = (sys.executable, "-m", "mycelium.cli.main")
RAY_ENVIRONMENT = {"RAY_BACKEND_LOG_LEVEL": "warning"}


class RigSite:
    """Host 0 is the head's. Its API is spoken to from inside its namespace, with the command line itself."""

    def __init__(self, root: Path, hosts: int, **env: str) -> None:
        self.root = root
        self.net = Net(hosts)
        self.env = {**os.environ, "MYC_LOG_LEVEL": "warning", **env}
        self.running: dict[int, subprocess.Popen[bytes]] = {}

    def home(self, host: int) -> Path:
        return self.root / f"host{host}"

    def environment(self, host: int) -> dict[str, str]:
        home = self.home(host)
        return {**self.env, "MYC_HOME": str(home), "XDG_CONFIG_HOME": str(self.root / f"config{host}")}

    def begin(self, host: int, *words: str, **env: str) -> subprocess.Popen[bytes]:
        """Start `myc WORDS` on a host, and keep it as what runs there."""
        with self.log(host).open("ab") as output:
            self.running[host] = subprocess.Popen(
                self.net.inside(host, *MYC, *words),
                env=self.environment(host) | env,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                cwd="/",
            )
        return self.running[host]

    def log(self, host: int) -> Path:
        return self.root / f"host{host}.log"

    def said(self, host: int) -> str:
        return self.log(host).read_text() if self.log(host).exists() else ""

    def myc(self, *words: str, host: int = 0, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run `myc WORDS` to its end."""
        done = subprocess.run(
            self.net.inside(host, *MYC, *words),
            env=self.environment(host),
            capture_output=True,
            text=True,
            timeout=WAIT_S * 2,
            check=False,
            cwd=more.pop("cwd", "/"),
        )
        assert not check or done.returncode == 0, f"myc {' '.join(words)}: {done.returncode} {done.stdout}{done.stderr}"
        return done

    # Through the API, from inside the head's namespace: one process that stays, because starting one costs most.

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def post(self, path: str, document: Any = None) -> Any:
        return self.call("POST", path, document or {})

    def call(self, method: str, path: str, document: Any = None, token: str = "") -> Any:
        url = json.loads((self.home(0) / "site.json").read_text())["url"]
        token = token or (self.home(0) / "tokens" / "admin").read_text().strip()
        asked = json.dumps([method, url, path, token, document, str(self.home(0) / "tls" / "ca.pem")])
        caller = self._caller()
        assert caller.stdin is not None
        assert caller.stdout is not None
        caller.stdin.write(asked + "\n")
        caller.stdin.flush()
        status, body = json.loads(caller.stdout.readline())
        assert 200 <= status < 300, f"{method} {path}: {status} {body}"
        return body

    _calls: subprocess.Popen[str] | None = None

    def _caller(self) -> subprocess.Popen[str]:
        if self._calls is None or self._calls.poll() is not None:
            self._calls = subprocess.Popen(
                self.net.inside(0, sys.executable, "-c", CALLER),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        return self._calls

    # Words of the scripts.

    def up(self, *words: str) -> RigSite:
        self.begin(0, "up", "--engine=ray", f"--address={self.net.address(0)}", "--port=8700", *words)
        wait_for(lambda: self.ready() or self._check(0), "the site to be ready")
        wait_for(lambda: self.state("node-1") == "up", "the head's own node to be up")
        return self

    def ready(self) -> bool:
        with contextlib.suppress(OSError, ValueError, KeyError):
            pid = json.loads((self.home(0) / "site.json").read_text())["pid"]
            # `ip netns exec` becomes the command: their pids are the same
            return pid == self.running[0].pid
        return False

    def _check(self, host: int) -> bool:
        assert self.running[host].poll() is None, f"host {host} ended: {self.said(host)}"
        return False

    @property
    def token_file(self) -> str:
        return str(self.home(0) / "tokens" / "join")

    def join(self, host: int, *words: str, token_file: str = "", **env: str) -> None:
        """Without waiting."""
        words = (f"--token-file={token_file or self.token_file}", f"--name=host{host}", "--label=edge", *words)
        self.begin(host, "join", f"{self.net.address(0)}:8700", *words, **env)

    def join_up(self, *hosts: int) -> None:
        """Join, be approved, and be up."""
        for host in hosts:
            self.join(host)
        for host in hosts:
            wait_for(lambda host=host: self.state(f"host{host}") or self._check(host), f"host {host} to ask")
            self.post(f"/nodes/host{host}/approve")
        for host in hosts:
            wait_for(lambda host=host: self.state(f"host{host}") == "up", f"host {host} to be up")

    def nodes(self) -> dict[str, dict[str, Any]]:
        """By name and by id."""
        nodes = self.get("/nodes")["nodes"]
        return {node["name"]: node for node in nodes} | {node["id"]: node for node in nodes}

    def state(self, node: str) -> str:
        return self.nodes().get(node, {}).get("state", "")

    def submit(self, *command: str, **keys: Any) -> str:
        return self.post("/jobs", {"command": list(command), "sandbox": "none", **keys})["jobs"][0]["id"]

    def submit_program(self, module: Module, inputs: dict[str, Any], **keys: Any) -> str:
        """Send a Polymer program and its inputs, from the head's host."""
        packed, given = self.root / "program.pmr", self.root / "program.in"
        packed.write_bytes(pmr.pack(seal(module)))
        given.write_bytes(values.pack(inputs))
        url = json.loads((self.home(0) / "site.json").read_text())["url"]
        words = [
            url,
            (self.home(0) / "tokens" / "admin").read_text().strip(),
            str(packed),
            str(given),
            json.dumps(keys),
        ]
        command = self.net.inside(0, sys.executable, "-c", SUBMITTER, *words)
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def result(self, job: str, into: Path) -> Any:
        """What a program left."""
        self.myc("outputs", job, str(into))
        return values.read(next(into.rglob(RESULT_FILE)).read_bytes())

    def job(self, job: str) -> dict[str, Any]:
        return self.get(f"/jobs/{job}")

    def wait(self, job: str, *states: str) -> dict[str, Any]:
        wanted = states or ("done", "failed", "cancelled")
        wait_for(lambda: self.job(job)["state"] in wanted, f"{job} to be {' or '.join(wanted)}")
        return self.job(job)

    def story(self, job: str) -> list[str]:
        return [event["says"] for event in self.get(f"/jobs/{job}/story")["story"]]

    def output(self, job: str) -> str:
        return self.myc("logs", job).stdout

    # Things done to it.

    def kill(self, host: int) -> None:
        """SIGKILL to `myc up` or `myc join` alone."""
        self.running[host].kill()
        self.running[host].wait()

    def kill_all(self, host: int) -> None:
        """SIGKILL to everything on that host, as when its power is cut."""
        empty(self.net.hosts[host])
        self.running[host].wait()

    def find(self, host: int, mark: str) -> list[psutil.Process]:
        """The processes of a host whose command says `mark`."""
        found: list[psutil.Process] = []
        for pid in processes(self.net.hosts[host]):
            with contextlib.suppress(psutil.Error):
                each = psutil.Process(pid)
                if mark in " ".join(each.cmdline()) or mark in each.name():
                    found.append(each)
        return found

    def agent(self, host: int) -> process.Process:
        found = next(self.home(host).glob("nodes/*/agent.pid"))
        read = process.read(str(found))
        assert read is not None
        return read

    def stop(self, host: int) -> None:
        self.running[host].send_signal(signal.SIGTERM)
        self.running[host].wait(WAIT_S)

    def left(self) -> dict[int, list[str]]:
        """What still runs on each host."""
        found: dict[int, list[str]] = {}
        for host in range(len(self.net.hosts)):
            for pid in processes(self.net.hosts[host]):
                with contextlib.suppress(psutil.Error):
                    if self._calls is None or pid != self._calls.pid:
                        found.setdefault(host, []).append(" ".join(psutil.Process(pid).cmdline())[:100])
        return found

    def end(self) -> None:
        """Leave nothing behind, whatever the test did."""
        if self._calls is not None:
            self._calls.kill()
            self._calls.communicate()
        self.net.close()
        for host in range(len(self.net.hosts)):
            Raylet(RayletPlace(self.home(host) / "ray", "")).kill()
        for each in self.running.values():
            each.kill()
            each.wait()
        shutil.rmtree(self.root, ignore_errors=True)


SUBMITTER = r"""
import json, sys
from pathlib import Path
from mycelium.client import program
from mycelium.client.site import Client
url, token, packed, given, keys = sys.argv[1:]
files = [Path(path).read_bytes() for path in (packed, given)]
print(program.submit(Client(url, token), *files, json.loads(keys))["id"])
"""

CALLER = r"""
import http.client, json, os, ssl, sys, urllib.parse
for line in sys.stdin:
    method, url, path, token, document, ca = json.loads(line)
    parts = urllib.parse.urlsplit(url)
    kind = http.client.HTTPConnection
    more = {}
    if parts.scheme == "https":
        kind, more = http.client.HTTPSConnection, {"context": ssl.create_default_context(cafile=ca)}
    try:
        connection = kind(parts.hostname, parts.port, timeout=30, **more)
        body = None if document is None else json.dumps(document)
        connection.request(method, path, body, {"Authorization": "Bearer " + token})
        answer = connection.getresponse()
        said = [answer.status, json.loads(answer.read())]
    except Exception as error:
        said = [0, repr(error)]
    print(json.dumps(said), flush=True)
"""


@contextlib.contextmanager
def rig_site(root: Path, hosts: int, **env: str) -> Iterator[RigSite]:
    root.mkdir(parents=True, exist_ok=True)
    site = RigSite(root, hosts, **env)
    try:
        yield site
    finally:
        site.end()
