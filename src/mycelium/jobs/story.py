"""Says in words what an event means to the people of a site: one sentence an event.

Never: looks anything up: what a sentence needs is in the event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mycelium.base.units import format_size, format_time_ms
from mycelium.jobs.events import (
    JobArchived,
    JobCancelled,
    JobEnded,
    JobEvent,
    JobReleased,
    JobSubmitted,
    StepEnded,
    StepStarted,
    TaskEnded,
    TaskPlaced,
    TaskRequeued,
    TaskStopping,
)
from mycelium.jobs.model import Cause, Ended, Reason, Request, TaskState

CAUSES: dict[Cause, str] = {
    Cause.CANCEL: "it was cancelled",
    Cause.DRAIN: "its node is being drained",
    Cause.GANG: "another of its steps ended badly",
    Cause.LEAD: "the step that the others worked for ended",
    Cause.NODE_LOST: "its node was lost",
    Cause.STEP_LOST: "its step was killed from outside",
    Cause.RETRY: "it failed and has retries left",
    Cause.SITE_DOWN: "the site went down",
    Cause.TIME: "it passed its time limit",
}

ENDS: dict[Reason, str] = {
    Reason.TIME: "reached its time limit",
    Reason.STOPPED: "stopped as it was told to",
    Reason.MEMORY: "was killed: it used more memory than it asked for",
    Reason.DISK: "was killed: it wrote more than it may",
    Reason.LOST: "was lost",
    Reason.FAILED_START: "could not be started",
}


def say(event: JobEvent) -> str:
    """The sentence for an event."""
    return SENTENCES[event.__class__](event)


def say_request(request: Request) -> str:
    """What a job asks for, in one line."""
    said = f"{request.needs} for at most {format_time_ms(request.time_ms)}"
    if request.nodes > 1:
        said = f"{request.nodes} nodes with {said}"
    if request.array:
        said = f"{len(request.array.indices)} tasks of {said}"
    if request.on:
        said += f", on {','.join(request.on)}"
    return said


def _say_submitted(event: JobSubmitted) -> str:
    said = f"{event.account} submitted {event.request.name!r}: {say_request(event.request)}"
    return f"{said}; it waits for {', '.join(event.waits_for)}" if event.waits_for else said


def _say_released(event: JobReleased) -> str:
    still = f"; still waits for {', '.join(event.still)}" if event.still else ""
    return f"{event.after} is done{still}"


def _say_placed(event: TaskPlaced) -> str:
    where = ", ".join(event.nodes)
    return f"attempt {event.attempt} was given {where}"


def _say_started(event: StepStarted) -> str:
    return f"attempt {event.attempt} started"


def _say_step_ended(event: StepEnded) -> str:
    who = f"attempt {event.attempt}" + (f" rank {event.rank}" if event.rank else "")
    return f"{who} {say_end(event.ended)}"


def say_end(ended: Ended) -> str:
    """How a step ended, with what it used."""
    said = ENDS.get(ended.reason, f"exited with {ended.exit_code}")
    if ended.message:
        said += f" ({ended.message})"
    if ended.started_ns and ended.ended_ns:
        said += f" after {format_time_ms((ended.ended_ns - ended.started_ns) // 1_000_000)}"
        said += f", having used {format_time_ms(ended.cpu_ms)} of cpu"
        said += f" and {format_size(ended.memory_peak_bytes)} at its peak" if ended.memory_peak_bytes else ""
    return said


def _say_stopping(event: TaskStopping) -> str:
    by = f" by {event.by}" if event.by else ""
    return f"attempt {event.attempt} is told to stop{by}: {CAUSES[event.cause]}"


def _say_requeued(event: TaskRequeued) -> str:
    message = f" ({event.message})" if event.message else ""
    return f"queued again as attempt {event.attempt + 1}: {CAUSES[event.cause]}{message}"


def _say_task_ended(event: TaskEnded) -> str:
    if event.state is TaskState.DONE:
        return f"done: attempt {event.attempt} was committed"
    message = f": {event.message}" if event.message else f" with exit code {event.exit_code}"
    return f"{event.state}{message}"


def _say_job_ended(event: JobEnded) -> str:
    return f"the job is {event.state}" + (f": {event.message}" if event.message else "")


SENTENCES: dict[type, Callable[[Any], str]] = {
    JobSubmitted: _say_submitted,
    JobReleased: _say_released,
    JobCancelled: lambda event: f"cancelled by {event.by}" + (f": {event.why}" if event.why else ""),
    JobEnded: _say_job_ended,
    JobArchived: lambda _: "moved to the archive",
    TaskPlaced: _say_placed,
    StepStarted: _say_started,
    StepEnded: _say_step_ended,
    TaskStopping: _say_stopping,
    TaskRequeued: _say_requeued,
    TaskEnded: _say_task_ended,
}
