"""What the log holds of one job, oldest first."""

from __future__ import annotations

from collections.abc import Iterator

from mycelium.base.ids import JobId
from mycelium.head import codec
from mycelium.log.entry import Entry
from mycelium.log.seam import Log


def about(log: Log, job: JobId) -> Iterator[tuple[Entry, codec.Event]]:
    """Every event that names this job. Cost: the job's own events; the log keeps an index of them."""
    name = f'"{job}"'.encode()
    for entry in log.read():
        if name in entry.data:
            event = codec.decode(entry.kind, entry.data)
            if getattr(event, "job", None) == job:
                yield entry, event
