"""`myc deployment …`: what is served, by which replicas, and how well."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from mycelium.cli.options import Json
from mycelium.client import show
from mycelium.client.site import connect

LOOK_S = 1.0


def list_deployments(json: Json = False) -> None:
    """List what is served, and how it stands."""
    found = connect().get("/deployments")
    if json:
        show.document(found)
        return
    rows = [
        (
            show.clean(one["name"]),
            show.state(one["state"]),
            f"{sum(1 for r in one['replicas'] if r['state'] == 'ready')}/{one['target']}" if one["model"] else "-",
            str(one["active"]),
            str(one["waiting"]),
            str(one["batch_lines"]),
            show.clean(one["by"]),
            show.clean(one["message"] if one["state"] == "failing" else one["upstream"] or one["model"]),
        )
        for one in found["deployments"]
    ]
    head = ("SERVED AS", "STATE", "REPLICAS", "ACTIVE", "WAITING", "BATCH", "BY", "FROM")
    show.table(head, rows, right=("REPLICAS", "ACTIVE", "WAITING", "BATCH"))
    if found["gateways"]:
        several = len(found["gateways"]) > 1
        urls = ", ".join(f"{url}/v1" for url in found["gateways"])
        show.note(f"the gateways are {urls}" if several else f"the gateway is {urls}")


def show_deployment(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is served as.")], json: Json = False
) -> None:
    """Everything about one deployment, and its replicas."""
    found = connect().get(f"/deployments/{name}")
    if json:
        show.document(found)
        return
    show.facts(
        (
            ("served as", show.clean(found["name"])),
            ("state", show.state(found["state"])),
            ("message", show.clean(found["message"])),
            ("from", show.clean(found["upstream"] or found["model"])),
            ("called there", show.clean(found["upstream_model"] or "")),
            ("kind", found["kind"]),
            ("by", show.clean(found["by"])),
            (
                "replicas",
                f"{found['target']} wanted, {found['replicas_min']} to {found['replicas_max']}"
                if found["model"]
                else "",
            ),
            ("each", f"{show.devices(found['needs'])}, {found['parallel']} requests at once" if found["model"] else ""),
            ("requests", f"{found['active']} active, {found['waiting']} wait, {found['batch_lines']} lines of batches"),
        )
    )
    if found["replicas"]:
        show.say()
        head = ("REPLICA", "NODE", "STATE", "ACTIVE", "WHY")
        rows = [(r["job"], r["node"] or "-", show.state(r["state"]), r["active"], r["why"]) for r in found["replicas"]]
        show.table(head, [(*row[:4], show.clean(row[4])) for row in rows], right=("ACTIVE",))


def top(
    once: Annotated[bool, typer.Option("--once", help="Look once.")] = False,
    json: Json = False,
) -> None:
    """Every replica: what it does now, how fast, and how long the first token takes. Until Ctrl-C."""
    client = connect()
    while True:
        found = client.get("/deployments")
        if json:
            show.document(found)
            return
        if not once:
            clear = "\x1b[H\x1b[2J" if sys.stdout.isatty() else ""
            show.say(clear + time.strftime("%H:%M:%S"))
        _say(found)
        if once:
            return
        time.sleep(LOOK_S)


def _say(found: dict[str, Any]) -> None:
    rows: list[tuple[str, ...]] = []
    for one in found["deployments"]:
        for replica in one["replicas"]:
            rows.append(
                (
                    show.clean(one["name"]),
                    replica["job"],
                    replica["node"] or "-",
                    show.state(replica["state"]),
                    str(replica["active"]),
                    f"{replica['tokens_s']:.1f}",
                    f"{replica['ttft_ms']}ms" if replica["ttft_ms"] else "-",
                    f"{replica['requests']:,}",
                    f"{replica['tokens']:,}",
                )
            )
        queue = f"{one['waiting']} wait, {one['batch_lines']} lines of batches"
        rows.append((show.clean(one["name"]), "queue", "-", queue, str(one["active"]), "", "", "", ""))
    head = ("SERVED AS", "REPLICA", "NODE", "STATE", "ACTIVE", "TOKENS/S", "FIRST TOKEN", "REQUESTS", "TOKENS")
    show.table(head, rows, right=("ACTIVE", "TOKENS/S", "FIRST TOKEN", "REQUESTS", "TOKENS"))
