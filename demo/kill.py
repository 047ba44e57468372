"""The accident: SIGKILL to one node's agent and to everything that runs on that node."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path


def kill_node(home: Path, node: str) -> list[str]:
    """Kill the agent first, so that it can tell nobody, then its steps. Returns the steps that were killed alive."""
    directory = home / "nodes" / node
    _kill(_pid(directory / "agent.pid"))
    killed: list[str] = []
    for step in sorted((directory / "steps").glob("*")):
        pid = _pid(step / "pid")
        alive = bool(pid) and not (step / "status").exists() and _kill_group(pid)
        if alive and not (step / "status").exists():  # it may have ended by itself at the last moment
            killed.append(step.name)
    return killed


def _pid(path: Path) -> int:
    try:
        return int(json.loads(path.read_text())["pid"])
    except (OSError, ValueError, KeyError):
        return 0


def _kill(pid: int) -> bool:
    if not pid:
        return False
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _kill_group(shim: int) -> bool:
    """A shim leads a session; what it runs are its children, whatever groups they are in."""
    below = _children(shim)
    alive = _kill(shim)
    for pid in below:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return alive


def _children(pid: int) -> list[int]:
    found: list[int] = []
    pending = [pid]
    while pending:
        path = Path(f"/proc/{pending.pop()}")
        for task in path.glob("task/*/children"):
            with contextlib.suppress(OSError):
                numbers = [int(number) for number in task.read_text().split()]
                found += numbers
                pending += numbers
    return found
