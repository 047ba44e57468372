"""A small network: a bridge in a namespace of its own, and hosts with addresses 10.77.x.y on it.

Everything lies in named namespaces that carry this process's id, so what a crashed run left is found and removed by
the next one. Needs root and iproute2.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from mycelium.sandbox import usage
from tests.live.rig import spoiler

PREFIX = "myct"
_numbers = itertools.count(1)

needs_rig = pytest.mark.skipif(
    os.geteuid() != 0
    or shutil.which("ip") is None
    or subprocess.run(["unshare", "-n", "true"], check=False).returncode != 0,
    reason="network namespaces need root and iproute2",
)


def ip(*words: str, inside: str = "") -> None:
    done = subprocess.run(
        ["ip", *(["-n", inside] if inside else []), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


class Net:
    """`hosts` namespaces, each with one cable to the bridge. Host 0 has the address 10.77.N.1, host 1 10.77.N.2, …"""

    def __init__(self, hosts: int) -> None:
        sweep()
        self.number = (os.getpid() + next(_numbers)) % 250 + 1
        self._mark = f"{PREFIX}{os.getpid()}n{self.number}"
        self.middle = f"{self._mark}b"
        self._spoilers: dict[int, subprocess.Popen[str]] = {}
        ip("netns", "add", self.middle)
        ip("link", "add", "br0", "type", "bridge", inside=self.middle)
        ip("link", "set", "br0", "up", inside=self.middle)
        self.hosts = [self._add(number) for number in range(hosts)]

    def _add(self, number: int) -> str:
        name, cable = f"{self._mark}h{number}", f"c{number}"
        ip("netns", "add", name)
        ip("link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", cable, "netns", self.middle)
        ip("link", "set", cable, "master", "br0", "up", inside=self.middle)
        ip("address", "add", f"{self.address(number)}/24", "dev", "eth0", inside=name)
        for device in ("lo", "eth0"):
            ip("link", "set", device, "up", inside=name)
        return name

    def address(self, host: int) -> str:
        return f"10.77.{self.number}.{host + 1}"

    def here(self) -> str:
        """Give this machine a cable to the bridge too. Its address there."""
        number, cable = len(self.hosts), f"{PREFIX}{self.number}"
        ip("link", "add", cable, "type", "veth", "peer", "name", "here", "netns", self.middle)
        ip("link", "set", "here", "master", "br0", "up", inside=self.middle)
        ip("address", "add", f"{self.address(number)}/24", "dev", cable)
        ip("link", "set", cable, "up")
        return self.address(number)

    def inside(self, host: int, *words: str) -> list[str]:
        """The words of a command that runs on that host."""
        return ["ip", "netns", "exec", self.hosts[host], *words]

    def pull(self, host: int) -> None:
        ip("link", "set", f"c{host}", "down", inside=self.middle)

    def plug(self, host: int) -> None:
        ip("link", "set", f"c{host}", "up", inside=self.middle)

    def spoil(self, host: int, delay_ms: int, loss: float) -> None:
        """Make a cable slow and lossy, both ways: see `spoiler`."""
        near, far, bridge = f"n{host}", f"f{host}", f"s{host}"
        words = [sys.executable, spoiler.__file__, near, far, str(delay_ms), str(loss)]
        made = subprocess.Popen(["ip", "netns", "exec", self.middle, *words], stdout=subprocess.PIPE, text=True)
        assert made.stdout is not None
        assert made.stdout.readline() == "ready\n"
        self._spoilers[host] = made
        ip("link", "add", bridge, "type", "bridge", inside=self.middle)
        ip("link", "set", bridge, "up", inside=self.middle)
        for device, master in ((near, bridge), (far, "br0"), (f"c{host}", bridge)):
            ip("link", "set", device, "master", master, "up", inside=self.middle)

    def mend(self, host: int) -> None:
        """Make a spoiled cable as it was."""
        ip("link", "set", f"c{host}", "master", "br0", inside=self.middle)
        made = self._spoilers.pop(host)
        made.kill()
        made.communicate()
        ip("link", "delete", f"s{host}", inside=self.middle)

    def close(self) -> None:
        for host in list(self._spoilers):
            self.mend(host)
        for name in [*self.hosts, self.middle]:
            remove(name)


def processes(namespace: str) -> list[int]:
    done = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False)
    return [int(pid) for pid in done.stdout.split()]


def empty(namespace: str) -> None:
    """SIGKILL to everything in it, as when a host's power is cut: until nothing lives there that could begin more."""
    while found := [pid for pid in processes(namespace) if usage.start_ticks(pid)]:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def remove(namespace: str) -> None:
    """The namespace and whatever still runs in it."""
    empty(namespace)
    subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)


def left_over() -> Sequence[str]:
    """Namespaces of runs whose process is gone."""
    directory = Path("/run/netns")
    names = [path.name for path in directory.glob(f"{PREFIX}[0-9]*")] if directory.is_dir() else []
    return [name for name in names if not Path("/proc", name.removeprefix(PREFIX).partition("n")[0]).exists()]


def sweep() -> None:
    for name in left_over():
        remove(name)
