"""What the log holds of one job, oldest first, and how it is said."""

from __future__ import annotations

from collections.abc import Iterator

from mycelium.base.ids import AccountId, JobId
from mycelium.head import codec
from mycelium.head.views import Document, time_view
from mycelium.inference import story as inference_story
from mycelium.inference.events import InferenceEvent
from mycelium.jobs import story as jobs_story
from mycelium.jobs.model import Site
from mycelium.log import Entry, Log, Verdict
from mycelium.log.whole import Whole


def about(log: Log, job: JobId) -> Iterator[tuple[Entry, codec.Event]]:
    """Every event that names this job or batch. Cost: its own events; the log keeps an index of them."""
    for entry in log.about(job):
        yield entry, codec.decode(entry.kind, entry.data)


def pruned_part(whole: Whole, first_ns: int, last_ns: int) -> Document | None:
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


def event_view(site: Site, entry: Entry, event: codec.Event, array: bool = False) -> Document:
    """An event as people and programs see it. `array`: its job's tasks are named by their index."""
    return {
        "seq": entry.seq,
        "time": time_view(entry.time_ns),
        "kind": type(event).__name__,
        "says": _say(site, event, array),
        "event": event,
    }


def _say(site: Site, event: codec.Event, array: bool) -> str:
    if isinstance(event, InferenceEvent):
        return inference_story.say(event)
    account = site.accounts.by_id.get(getattr(event, "account", None) or AccountId(""))
    return jobs_story.say(event, array, {account.id: account.name} if account else None)
