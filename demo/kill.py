"""The accident: SIGKILL to one node's agent and to everything that runs on that node."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path


def kill_node(home: Path, node: str) -> list[str]:
    """Kill the agent first, so that it can tell nobody, then its steps. Returns the steps that died, if any ran.

    Each shim is halted before it is looked at, so that no step ends by itself between the look and the kill.
    """
    directory = home / "nodes" / node
    caught = [step for step in sorted((directory / "steps").glob("*")) if halted(step)]
    if caught:
        _signal(_pid(directory / "agent.pid"), signal.SIGKILL)
    for step in caught:
        _kill_group(_pid(step / "pid"))
    return [step.name for step in caught]


def living(step: Path) -> bool:
    """Whether a step runs: it has a shim that has written down no end."""
    return not (step / "status").exists() and _signal(_pid(step / "pid"), 0)


def halted(step: Path) -> bool:
    """Halt a step's shim; let it go on when the step had ended already."""
    pid = _pid(step / "pid")
    if (step / "status").exists() or not _signal(pid, signal.SIGSTOP):
        return False
    if (step / "status").exists():
        _signal(pid, signal.SIGCONT)
        return False
    return True


def _pid(path: Path) -> int:
    try:
        return int(json.loads(path.read_text())["pid"])
    except (OSError, ValueError, KeyError):
        return 0


def _signal(pid: int, number: int) -> bool:
    """Whether there was somebody to take it."""
    if not pid:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _kill_group(shim: int) -> None:
    """A shim leads a session; what it runs are its children, whatever groups they are in."""
    for pid in [*_children(shim), shim]:
        _signal(pid, signal.SIGKILL)


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
