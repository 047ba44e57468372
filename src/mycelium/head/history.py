"""What the log holds of one job, node, account or deployment, oldest first, and how it is said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mycelium.base.ids import task_id
from mycelium.head.core import Core
from mycelium.head.views import Document, time_view
from mycelium.log import Entry


def about(core: Core, subject: str) -> Iterator[tuple[Entry, Any]]:
    """Every event that is about it. Cost: its own events; the log keeps an index of them."""
    for entry in core.log.about(subject):
        yield entry, core.codec.decode(entry.kind, entry.data)


def event_view(core: Core, entry: Entry, event: Any, array: bool = False) -> Document:
    """An event as people and programs see it. `array`: its job's tasks are named by their index."""
    return {
        "seq": entry.seq,
        "time": time_view(entry.time_ns),
        "kind": type(event).__name__,
        "says": say(core, event, array),
        "event": event,
    }


def say(core: Core, event: Any, array: bool = False) -> str:
    """Its sentence, with accounts by their names and the tasks of an array by theirs."""
    said = core.house.kinds[type(event)].says(event)
    account = core.site.accounts.by_id.get(getattr(event, "account", None) or "")
    if account is not None:
        said = said.replace(account.id, account.name, 1)
    index = getattr(event, "index", None)
    return f"{task_id(event.job, index)}: {said}" if array and index is not None else said
