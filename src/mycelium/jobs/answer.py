"""The answer to `why`, and how it is said in plain English.

Never: looks anything up. What is said here is what the answer holds.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from mycelium.base.ids import JobId
from mycelium.base.units import format_time_ms
from mycelium.jobs.forecast import Expected, Sure
from mycelium.jobs.standing import Standing


class Binding(StrEnum):
    """What can bind a job."""

    ENDED = "ended"
    RUNNING = "running"
    CANCELLED = "cancelled"
    DEPENDENCY = "dependency"
    THROTTLE = "throttle"
    NOTHING = "nothing"  # it starts in the next pass
    DEVICES = "devices"
    GANG = "gang"
    SELECTOR = "selector"
    CLOSED = "closed"  # only nodes that take no work now would do
    TURN = "turn"  # there is room, and those ahead get it
    KEPT = "kept"  # there is room, and it is kept for another
    NEVER = "never"  # not as the site is now


class Bind(Struct, frozen=True):
    """One thing that keeps the job from running now, in a sentence; `jobs` are those that it speaks of."""

    kind: Binding
    text: str
    jobs: tuple[JobId, ...] = ()


class Change(Struct, frozen=True):
    """The smallest change of the request that was found to start it sooner."""

    option: str  # as it is written: "--cpus 4"
    text: str
    instead_of: str
    size: float  # relative to what was asked: 0.5 is half
    expected: Expected


class Why(Struct, frozen=True):
    """What `why` and a dry run answer. `job` is None for a job that was not submitted."""

    job: JobId | None
    task: int | None
    state: str
    now_ns: int
    binds: tuple[Bind, ...]
    standing: Standing | None = None
    expected: Expected | None = None
    change: Change | None = None
    sought: bool = False  # whether a change was looked for

    @property
    def waits(self) -> bool:
        return self.expected is not None and self.expected.sure is not Sure.NOW


def say(why: Why) -> list[str]:
    """The answer in sentences, one a line, the most important first."""
    said = [_sentence(bind.text) for bind in why.binds]
    never = why.expected is not None and why.expected.sure is Sure.NEVER
    if why.standing is not None and why.waits and not never:
        said += _say_standing(why.standing)
    if why.expected is not None and why.waits:
        said += _say_expected(why.expected)
    if why.change is not None:
        change = why.change
        said.append(f"{_start(change.expected)} with {change.option} ({change.text}).")
    elif why.sought:
        said.append("No single smaller request was found that would start sooner.")
    return said


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:] if not text.startswith(("job-", "node-")) else text
    return text if text.endswith(".") else text + "."


def _say_standing(standing: Standing) -> list[str]:
    said = _say_siblings(standing.siblings)
    if standing.position == 1:
        if standing.waiting > 1:
            said.insert(0, f"{'Its job' if said else 'It'} is the first of {standing.waiting:,} in the queue.")
        return said or ["Nobody is ahead."]
    parts: list[str] = []
    if standing.by_priority:
        parts.append(f"{_jobs(standing.by_priority)} of a higher priority")
    if standing.by_share:
        parts.append(f"{_jobs(standing.by_share)} of other accounts (fair share)")
    if standing.by_age:
        parts.append(f"{_jobs(standing.by_age)} of the same account (submitted earlier)")
    whose = "Its job" if said else "It"
    said.insert(
        0, f"{whose} is number {standing.position:,} of {standing.waiting:,} in the queue, behind {_and(parts)}."
    )
    for ahead in standing.ahead:
        figure = ""
        if ahead.by == "fair share":
            less = ahead.share < standing.share
            figure = f", fair share {ahead.share:,.0f} against {standing.share:,.0f}" if less else ", taking turns"
        said.append(f"  ahead: {ahead.job} of {ahead.account_name} ({ahead.priority} priority{figure})")
    return said


def _say_siblings(count: int) -> list[str]:
    if not count:
        return []
    tasks = f"{count:,} tasks of the same array come" if count > 1 else "1 task of the same array comes"
    return [f"{tasks} before it."]


def _say_expected(expected: Expected) -> list[str]:
    rests = f" This rests on {_and(list(expected.rests_on))}." if expected.rests_on else ""
    match expected.sure:
        case Sure.ABOUT:
            where = f" on {_and(list(expected.nodes[:3]))}" if expected.nodes else ""
            where += f" and {len(expected.nodes) - 3} more" if len(expected.nodes) > 3 else ""
            late = (
                f" If every task ran to its limit: {format_time_ms(expected.at_limits_ms)}."
                if expected.at_limits_ms
                else ""
            )
            return [f"It is expected to start in about {format_time_ms(expected.in_ms or 0)}{where}.{rests}{late}"]
        case Sure.NOT_BEFORE:
            within = format_time_ms(expected.in_ms or 0)
            return [f"It is not expected to start within {within}: the look ahead ends there.{rests}"]
        case Sure.NEVER:
            return ["It cannot start as the site is now."]
        case _:
            return ["Nothing that runs now says when it will start."]


def _start(expected: Expected) -> str:
    if expected.sure is Sure.NOW:
        return f"It would start now on {_and(list(expected.nodes[:3]))}"
    if expected.sure is Sure.NOT_BEFORE:
        return f"It could start, but not within {format_time_ms(expected.in_ms or 0)},"
    return f"It would start in about {format_time_ms(expected.in_ms or 0)}"


def _jobs(count: int) -> str:
    return f"{count:,} jobs" if count != 1 else "1 job"


def _and(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1] if parts else ""
