"""What the log holds of one job, oldest first."""

from __future__ import annotations

from collections.abc import Iterator

from mycelium.base.ids import JobId
from mycelium.head import codec
from mycelium.log import Entry, Log


def about(log: Log, job: JobId) -> Iterator[tuple[Entry, codec.Event]]:
    """Every event that names this job. Cost: the job's own events; the log keeps an index of them."""
    for entry in log.about(job):
        yield entry, codec.decode(entry.kind, entry.data)
