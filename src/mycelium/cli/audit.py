"""`myc audit verify`: is the log what it was when it was written?"""

from __future__ import annotations

from mycelium.base.errors import Conflict
from mycelium.cli import show
from mycelium.cli.client import connect
from mycelium.cli.options import Json


def verify(json: Json = False) -> int:
    """Walk the hash chain of the log. Exits with 5 when an event was altered, added or taken away."""
    found = connect().get("/audit")
    bad = found.get("bad_seq")
    if json:
        show.document({"ok": bad is None, **found})
    elif bad is not None:
        show.say(show.paint(f"the log was altered at event {bad}: {show.clean(found['why'])}", "31"))
    else:
        walked = f"{show.counted(found['events'], 'event')}, {found['first_seq']} to {found['last_seq']}"
        show.say(show.paint(f"the log is as it was written: {walked}", "32"))
        show.say(f"the hash of the last one is {found['hash']}")
        show.note("keep that hash elsewhere, and it shows later whether history was rewritten as a whole")
    for path in found.get("unseen") or ():
        show.note(f"{path} holds exported events and was not found: they were not checked")
    return 0 if bad is None else Conflict.exit
