"""`myc down`: end the site of this machine, or the one that `myc` was told to talk to."""

from __future__ import annotations

import os
import signal
import time
from typing import Annotated, Any

import typer

from mycelium.base.errors import Denied, Problem, Unavailable, Unknown
from mycelium.base.limits import GRACE_MS
from mycelium.base.units import parse_time_ms
from mycelium.cli.options import Json
from mycelium.client import settings, show
from mycelium.client.site import Client, connect

MARGIN_S = 20.0  # beyond the grace period: for killing what is left, and for writing a snapshot


def down(
    grace: Annotated[str, typer.Option(metavar="TIME", help="Between SIGTERM and SIGKILL for what runs.")] = "10s",
    now: Annotated[bool, typer.Option("--now", help="No grace.")] = False,
    json: Json = False,
) -> None:
    """Stop the site. What runs gets SIGTERM and a time of grace; it is queued again and runs when the site is up."""
    grace_ms = 0 if now else parse_time_ms(grace)
    told = _ask(grace_ms)
    if json:
        show.document(told)
        return
    show.say(f"the site has stopped ({told['how']}); `myc up` starts it again where it was")


def _ask(grace_ms: int) -> dict[str, Any]:
    """By its API; when it does not answer, by a signal to its process, if that is on this machine."""
    process = settings.running()
    try:
        client = connect()
        answer = client.post("/down", {"grace_ms": grace_ms})
        if answer.get("nodes_with_work"):
            show.note(
                f"waiting up to {grace_ms / 1000:g}s for {show.counted(answer['nodes_with_work'], 'node')} with work"
            )
        how = "asked over its API"
        client.close()
        _wait_away(client, process, grace_ms)
        return {"stopped": True, "url": client.url, "how": how}
    except (Unavailable, Unknown) as problem:
        pid = process.get("pid")
        if not pid:
            if settings.was_running():
                problem.hint = "what ran goes on without it; `myc up --detach` and then `myc down` end it"
            raise
        return _signal(int(pid), process["url"], problem)


def _signal(pid: int, url: str, problem: Problem) -> dict[str, Any]:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        raise problem from None
    except PermissionError:
        raise Denied(f"the site is process {pid}, which belongs to another user", hint="ask its owner") from None
    _wait_gone(pid, GRACE_MS)
    return {"stopped": True, "url": url, "how": f"by a signal to process {pid}"}


def _wait_away(client: Client, process: dict[str, Any], grace_ms: int) -> None:
    if process.get("url") == client.url:
        _wait_gone(int(process["pid"]), grace_ms)
        return
    until = time.monotonic() + grace_ms / 1000 + MARGIN_S
    while time.monotonic() < until:
        try:
            Client(client.url).get("/health")
        except Problem:
            return
        time.sleep(0.1)
    raise Unavailable(f"the site at {client.url} still answers")


def _wait_gone(pid: int, grace_ms: int) -> None:
    until = time.monotonic() + grace_ms / 1000 + MARGIN_S
    while time.monotonic() < until:
        if not settings.lives(pid):
            return
        time.sleep(0.02)
    raise Unavailable(f"process {pid} has not ended", hint=f"look at {settings.home() / 'head.log'}")
