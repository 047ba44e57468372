"""`myc audit verify`: is the log what it was when it was written?"""

from __future__ import annotations

from mycelium.base.errors import Conflict
from mycelium.cli.options import Json
from mycelium.client import show
from mycelium.client.site import connect


def verify(json: Json = False) -> int:
    """Walk the hash chain of the log. Exits with 5 when an event was altered, added or taken away."""
    found = connect().get("/audit")
    if json:
        show.document(found)
    elif found["ok"]:
        show.say(show.paint(f"the log is whole: {show.clean(found['says'])}", "32"))
        show.say(f"the hash of the last event is {found['hash']}")
        show.note("keep that hash elsewhere, and it shows later whether all of history was rewritten")
    else:
        show.say(show.paint(f"the log was altered: {show.clean(found['says'])}", "31"))
    for path in found["unseen"]:
        show.note(f"{path} holds exported events and was not found: they were not checked")
    return 0 if found["ok"] else Conflict.exit
