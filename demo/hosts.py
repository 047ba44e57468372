"""The demo's site on hosts with addresses of their own: this machine, and network namespaces that join it over Ray.

A host can lose its power, which is SIGKILL to all that runs on it, or its cable. Needs root, iproute2 and a checkout:
the tests' rig makes the hosts.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from demo.kill import halted, living
from demo.site import Failed, Site
from mycelium.engine.ray.raylet import Raylet, RayletPlace
from tests.live.rig.net import Net, empty, processes

JOINED_S = 90.0  # a busy machine starts Ray slowly
LOOK_S = 0.2


class Hosts(Site):
    """`nodes` hosts: the first is this machine, which has the head."""

    def __init__(self, nodes: int) -> None:
        super().__init__(nodes)
        self._net = Net(nodes - 1)
        self._address = self._net.here()
        self._joined: list[subprocess.Popen[bytes]] = []
        self._host_of: dict[str, int] = {}  # by the id of its node
        self._door = ""
        self.about = (
            f"A site of {nodes} hosts   myc up --engine ray --address {self._address}, and myc join on the others"
        )

    def up(self) -> str:
        url = self.ask("up", "--engine", "ray", "--address", self._address, "--port", "0", "--detach")["url"]
        self._door = urlsplit(url).netloc
        for host in range(self.nodes - 1):
            (self._place(host) / "token").write_text(self.myc("node", "invite"))
            self._join(host)
        self._wait_whole()
        self._host_of = {node["id"]: host for node in self._nodes() for host in self._named(node)}
        return url

    def mortal(self, node: str) -> bool:
        return node in self._host_of

    def kill(self, node: str) -> list[str]:
        """Cut the power of that node's host, and give it back: it starts with nothing but its disk."""
        host = self._host_of.get(node)
        if host is None:
            return super().kill(node)
        caught = [step.name for step in self._steps(node) if halted(step)]
        if caught:
            empty(self._net.hosts[host])
            self._join(host)
        return caught

    def strike(self, node: str) -> tuple[str, list[str]]:
        host = self._host_of.get(node)
        if host is None:
            return super().strike(node)
        caught = [step.name for step in self._steps(node) if living(step)]
        self._net.pull(host)
        return f"the cable of {node} was pulled", caught

    def heal(self) -> None:
        for host in self._host_of.values():
            self._net.plug(host)
        self._wait_whole()

    def processes(self) -> list[int]:
        return sorted({*super().processes(), *(pid for name in self._net.hosts for pid in processes(name))})

    def end(self) -> None:
        super().end()
        self._net.close()
        for joined in self._joined:
            joined.wait()
        for host in range(self.nodes - 1):
            Raylet(RayletPlace(self._place(host) / "ray", "")).kill()

    def _place(self, host: int) -> Path:
        place = self.root / f"host{host + 1}"
        place.mkdir(exist_ok=True)
        return place

    def _join(self, host: int) -> None:
        place = self._place(host)
        words = ["join", self._door, "--token-file", str(place / "token"), "--name", place.name]
        with (self.root / f"{place.name}.log").open("ab") as output:
            self._joined.append(
                subprocess.Popen(
                    self._net.inside(host, sys.executable, "-m", "mycelium.cli.main", *words),
                    env={**self.environment, "MYC_HOME": str(place)},
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
            )

    def _nodes(self) -> list[dict[str, Any]]:
        return self.client().get("/nodes")["nodes"]

    def _named(self, node: dict[str, Any]) -> list[int]:
        return [host for host in range(self.nodes - 1) if node["name"] == f"host{host + 1}"]

    def _wait_whole(self) -> None:
        until = time.monotonic() + JOINED_S
        while [node["state"] for node in self._nodes()].count("up") < self.nodes:
            if time.monotonic() > until:
                states = {node["id"]: node["state"] for node in self._nodes()}
                raise Failed(f"not all hosts are up after {JOINED_S:.0f}s: {states}")
            time.sleep(LOOK_S)

    def _steps(self, node: str) -> list[Path]:
        return sorted((self._place(self._host_of[node]) / "nodes" / node / "steps").glob("*"))
