"""`myc audit verify`: is the log what it was when it was written? `myc log verify`, by an older name."""

from __future__ import annotations

from mycelium.cli.options import Json
from mycelium.cli.site import log


def verify(json: Json = False) -> int:
    """Walk the hash chain of the log. Exits with 5 when an event was altered, added or taken away."""
    return log.verify([], "", json)
