"""What the log holds of one job, oldest first, and how it is said."""

from __future__ import annotations

from collections.abc import Iterator

from mycelium.base.ids import JobId
from mycelium.head import codec
from mycelium.inference import story as inference_story
from mycelium.inference.events import InferenceEvent
from mycelium.jobs import story as jobs_story
from mycelium.log import Entry, Log


def about(log: Log, job: JobId) -> Iterator[tuple[Entry, codec.Event]]:
    """Every event that names this job. Cost: the job's own events; the log keeps an index of them."""
    for entry in log.about(job):
        yield entry, codec.decode(entry.kind, entry.data)


def say(event: codec.Event, array: bool = False) -> str:
    """The sentence for an event of any domain. `array`: its job's tasks are named by their index."""
    if isinstance(event, InferenceEvent):
        return inference_story.say(event)
    return jobs_story.say(event, array)
