"""`myc leave`: the `myc join` of this machine drains its node and ends."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Annotated

import typer

from mycelium.base import lock
from mycelium.base.errors import Conflict, Denied, Missing, Unavailable
from mycelium.base.home import Home, NodeFiles
from mycelium.cli.flags import takes_settings
from mycelium.client import settings, show

WAIT_S = 3600.0


@takes_settings("leave")
def leave(
    now: Annotated[bool, typer.Option("--now", help="Stop what runs here; it runs again elsewhere.")] = False,
) -> None:
    """Drain this machine's node and leave the site when its work has ended. `myc join` brings it back."""
    pid = _joined()
    for _ in range(2 if now else 1):
        try:
            os.kill(pid, signal.SIGTERM)
        except PermissionError:
            raise Denied(f"`myc join` here is process {pid}, which belongs to another user") from None
        except ProcessLookupError:
            break
        time.sleep(0.5)  # a signal that comes while the one before it waits would be lost
    until = time.monotonic() + WAIT_S
    while settings.lives(pid):
        if time.monotonic() > until:
            raise Unavailable(f"process {pid} has not ended", hint="`myc leave --now` stops what runs here")
        time.sleep(0.05)
    show.say("this machine has left the site")


def _joined() -> int:
    """The process of `myc join` that holds this home."""
    path = Home(settings.home()).join_lock
    with contextlib.suppress(OSError, ValueError):
        who = lock.holder(path)
        if who is not None:
            return int(who)
        _refuse_orphans()
    raise Missing(f"this machine has not joined a site (looked in {settings.home()})", hint="`myc join` does")


def _refuse_orphans() -> None:
    """Errors: `Conflict` when `myc join` was killed, and what it had started still is the node."""
    from mycelium.sandbox import process

    for path in Home(settings.home()).nodes.glob("*"):
        agent = process.read(str(NodeFiles(path).agent_pid))
        if agent is not None and agent.lives():
            raise Conflict(
                "`myc join` was killed here, and the node goes on without it",
                hint="`myc join` finds it again; then it can leave",
            )
