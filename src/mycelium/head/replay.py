"""From the log to the state: the newest snapshot that can be read, and the events after it.

Replay applies and never reacts: what followed from an event is in the log as well.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from mycelium.base.domain import View
from mycelium.base.errors import Refused
from mycelium.head.codec import Codec, Unreadable
from mycelium.head.domains import mounted
from mycelium.head.mount import Mounted
from mycelium.log import Entry, Log

log = logging.getLogger("mycelium.head")


def restore(history: Log, house: Mounted | None = None) -> tuple[Any, int]:
    """The state, and the number of the event that its snapshot was taken after.

    Errors: `Refused` when the log was written by another Mycelium, or a snapshot cannot be read whose events are gone.
    """
    house = house or mounted()
    codec = Codec(house)
    snapshot = history.snapshot()
    if snapshot is None:
        return replay(history.read(), None, house), 0
    whole = history.first_seq == 1
    try:
        state = codec.decode_state(snapshot.data, snapshot.version)
    except Unreadable as unreadable:
        if whole:
            log.info("the snapshot's table %r has another shape: the state is built from the events", unreadable.table)
            return replay(history.read(), None, house), 0
        if not unreadable.absent:
            raise Refused(
                f"the snapshot's table {unreadable.table!r} has a shape that this Mycelium cannot read, and the events"
                f" before {history.first_seq} were pruned",
                hint="use the Mycelium that wrote it; a later one may read both",
            ) from None
        # Nothing can have happened to a domain that was not mounted: its first event comes after this snapshot.
        state = codec.decode_state(snapshot.data, snapshot.version, absent_is_empty=True)
    return replay(history.read(snapshot.seq), state, house), snapshot.seq


def replay(entries: Iterable[Entry], state: Any = None, house: Mounted | None = None) -> Any:
    """The state that the entries lead to, from `state` on (None: from nothing)."""
    house = house or mounted()
    codec = Codec(house)
    return replay_into(entries, house.view(house.state() if state is None else state), house, codec)


def replay_into(entries: Iterable[Entry], view: View, house: Mounted, codec: Codec) -> Any:
    for entry in entries:
        house.apply(view, codec.decode(entry.kind, entry.data), entry.time_ns)
    return view.state
