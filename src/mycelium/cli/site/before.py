"""How the site ran last, so that `myc up` alone takes it up as it was. It never overrules what was said.

A site of many machines that came up on one alone, or on another port, would lose all the others.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mycelium.base import files
from mycelium.base.home import Home
from mycelium.client.table import SETTINGS

KEYS = tuple(setting.name for setting in SETTINGS.values() if setting.again)


def fill(home: Path, said: dict[str, Any]) -> dict[str, Any]:
    """What was said, and for what was not, what held before. Another engine begins with nothing."""
    held: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, TypeError):
        held = dict(json.loads(Home(home).up.read_text()))
    if said["engine"] and said["engine"] != held.get("engine", SETTINGS["engine"].default):
        return said
    return said | {key: held[key] for key in KEYS if key in held and said[key] in ("", None)}


def keep(home: Path, chosen: dict[str, Any], url: str) -> None:
    """Remember how the site runs at `url`. A port matters to machines that have joined, and to nobody else."""
    held = {key: chosen[key] for key in KEYS if key != "port" and chosen[key] not in ("", None)}
    if held.get("host") == held.get("address"):
        held.pop("host", None)  # it follows the address
    if held.get("address"):
        held["port"] = urlsplit(url).port
    files.write(Home(home).up, json.dumps(held) + "\n", durable=True)
