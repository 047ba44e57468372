"""The files in a step's directory that more than its agent knows of. Standard library only: the shim uses it too."""

from __future__ import annotations

import json
from typing import Any, cast

SPEC, PID, STOP, STATUS, ENDED, WORK = "spec", "pid", "stop", "status", "ended", "work"
SMALL_FILE_BYTES_MAX = 1 << 20


def read_json(path: str) -> dict[str, Any] | None:
    """The document, or None when there is none or what is there is not one."""
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(SMALL_FILE_BYTES_MAX))
    except (OSError, ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None
