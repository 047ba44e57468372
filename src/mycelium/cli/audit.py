"""`myc audit verify`: is the log what it was when it was written?"""

from __future__ import annotations

from mycelium.base.errors import Conflict
from mycelium.cli import show
from mycelium.cli.client import connect
from mycelium.cli.options import Json


def verify(json: Json = False) -> int:
    """Walk the hash chain of the log. Exits with 5 when an event was altered, added or taken away."""
    found = connect().get("/audit")
    if json:
        show.document(found)
    else:
        show.say(show.paint(show.clean(found["says"]), "32" if found["ok"] else "31"))
    return 0 if found["ok"] else Conflict.exit
