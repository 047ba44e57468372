"""`python -m mycelium.engine.ray.lean start …`: `ray start` without its dashboard and the two agents of each raylet.

Those three are Python processes of about 90 MB that we have no use for (no dashboard, no metrics, no runtime
environments), and starting them takes most of the time that Ray takes. A raylet insists on having two agents, so it
gets two that sleep; everything else is Ray's own code. A Ray of another version, where this may mean something else,
starts whole.
"""

# Much of Ray has no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ray
from ray import _raylet as compiled
from ray._private import services
from ray._private.node import Node
from ray.scripts import scripts

raylet_: Any = compiled  # its names have no types
KNOWN = "2.60."
NO_PORT = -1
NOT_STARTED = ("--dashboard_agent_command=", "--runtime_env_agent_command=")


def main() -> None:
    if ray.__version__.startswith(KNOWN):
        _leave_out()
    scripts.main()


def _leave_out() -> None:
    whole = services.start_ray_process

    def start(command: list[str], *words: Any, **options: Any) -> Any:
        told = {name: value for name, _, value in (word.partition("=") for word in command)}
        if "--dashboard_agent_command" in told:
            _say_no_ports(told["--session_dir"], told["--node_id"])
            command = [_asleep(word, Path(told["--session_dir"])) for word in command]
        return whole(command, *words, **options)

    services.start_ray_process = start
    Node.start_api_server = _nothing  # type: ignore[method-assign]  # its dashboard: nobody here looks at it


def _asleep(word: str, session: Path) -> str:
    """A script, because the raylet adds options of its own to what it is told to run."""
    agent = next((agent for agent in NOT_STARTED if word.startswith(agent)), None)
    if agent is None:
        return word
    script = session / "asleep"
    script.write_text("#!/bin/sh\nexec sleep infinity\n")
    script.chmod(0o700)
    return f"{agent}{script}"


def _say_no_ports(session: str, node: str) -> None:
    """A raylet waits for files in which its agents say their ports: these say that there are none."""
    for name in (
        raylet_.METRICS_AGENT_PORT_NAME,
        raylet_.METRICS_EXPORT_PORT_NAME,
        raylet_.DASHBOARD_AGENT_LISTEN_PORT_NAME,
        raylet_.RUNTIME_ENV_AGENT_PORT_NAME,
    ):
        raylet_.persist_port(session, node, name, NO_PORT)


def _nothing(self: Node, **_: Any) -> None:
    """In the place of the dashboard."""


if __name__ == "__main__":
    sys.exit(main())
