"""What the log holds of one job, node, account or deployment, oldest first, and how it is said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mycelium.base.ids import task_id
from mycelium.head.core import Core
from mycelium.head.views import Document, time_view
from mycelium.log import Entry, Verdict
from mycelium.log.whole import WholeLog


def about(core: Core, subject: str) -> Iterator[tuple[Entry, Any]]:
    """Every event that is about it. Cost: its own events; the log keeps an index of them."""
    for entry in core.log.about(subject):
        yield entry, core.codec.decode(entry.kind, entry.data)


def named(core: Core, text: str) -> str:
    """What the log calls what people call so: the id of a node or an account by its name; all else is its name."""
    for table in (core.site.nodes, core.site.accounts):
        for record in table.by_id.values():
            if record.name == text and text not in table.by_id:
                return record.id
    return text


def pruned_part(whole: WholeLog, first_ns: int, last_ns: int) -> Document | None:
    """Which events of this time are no longer in the log, and the files that hold them; None when all are here."""
    before_ns = whole.log.pruned.time_ns
    if first_ns > before_ns:
        return None
    files = [str(path) for path in whole.files_between(first_ns, min(last_ns, before_ns))]
    return {"upto": time_view(before_ns), "files": files}


def verdict_view(verdict: Verdict) -> Document:
    span = f"events {verdict.first_seq} to {verdict.last_seq}" if verdict.events else "no events"
    says = f"{span} are as they were written" if verdict.ok else f"event {verdict.bad_seq} {verdict.why}"
    return {
        "ok": verdict.ok,
        "events": verdict.events,
        "first_bad": verdict.bad_seq,
        "hash": verdict.hash,
        "unseen": verdict.unseen,
        "says": says,
    }


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
