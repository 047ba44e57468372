"""`myc status`: what the site has and does, on one screen."""

from __future__ import annotations

from typing import Any

from mycelium.base.units import format_cpus, format_size
from mycelium.cli.options import Json
from mycelium.client import show
from mycelium.client.site import connect


def status(json: Json = False) -> None:
    """What the site has and does."""
    found = connect().get("/status")
    if json:
        show.document(found)
        return
    total, used = found["devices"]["total"], found["devices"]["used"]
    show.facts(
        (
            ("site", f"{show.clean(found['site'])}  {found['url']}  (Mycelium {found['version']})"),
            ("up", show.ago(found["started"])),
            ("nodes", _counted(found["nodes"]) or "none yet"),
            ("cpus", f"{format_cpus(round(used['cpus'] * 1000))} of {format_cpus(round(total['cpus'] * 1000))} in use"),
            ("memory", f"{format_size(used['memory'])} of {format_size(total['memory'])} in use"),
            ("gpus", f"{used['gpus']} of {total['gpus']} in use" if total["gpus"] else ""),
            ("jobs", _counted(found["jobs"]) or "none yet"),
            ("accounts", found["accounts"]),
            ("log", show.counted(found["events"], "event")),
            ("you are", show.clean(found["account"])),
        )
    )


def _counted(states: dict[str, Any]) -> str:
    return ", ".join(f"{number} {show.state(state)}" for state, number in states.items() if number)
