"""The checks can fail: each part of the system is broken on purpose, and the promise it keeps is reported broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from mycelium.accounts import rules as account_rules
from mycelium.base.ids import split_step
from mycelium.head.core import Core
from mycelium.head.ear import Ear
from mycelium.inference import plan as inference_plan
from mycelium.inference import replicas
from mycelium.jobs import apply as changes
from mycelium.jobs import rules
from mycelium.jobs.model import Cause
from mycelium.log import MemoryLog
from mycelium.nodes import plan as node_plan
from mycelium.sim import askers, ending, promises
from mycelium.sim.run import SimOutcome, Simulation
from mycelium.sim.world import SimWorld, load

Patch = Callable[[pytest.MonkeyPatch], None]


def first_broken(world: SimWorld, seeds: int = 40) -> SimOutcome:
    for seed in range(1, seeds + 1):
        outcome = Simulation(world, seed).run()
        if not outcome.ok:
            return outcome
    raise AssertionError(f"{seeds} runs of {world.name} broke nothing")


def no_fence(patch: pytest.MonkeyPatch) -> None:
    """Reports of older attempts are believed."""

    def any_attempt(site: Any, job: Any, index: int | None, attempt: int, rank: int) -> Any:
        found = site.jobs.by_id.get(job)
        task = found.tasks.get(index or 0) if found else None
        return (found, task) if found and task and rank in task.live_ranks() else None

    patch.setattr(rules, "current", any_attempt)
    patch.setattr(Ear, "_current", lambda self, node, step: _unfenced(self, step))


def _unfenced(self: Ear, step: Any) -> Any:
    job, index, attempt, rank = split_step(step)
    found = rules.current(self.view.state, job, index, attempt, rank)
    return (*found, rank) if found else None


def no_keys(patch: pytest.MonkeyPatch) -> None:
    """An idempotency key is not remembered."""
    patch.setattr(changes, "_remember", lambda site, event, at_ns: None)


def back_with_a_word(patch: pytest.MonkeyPatch) -> None:
    """A lost node gets work again as soon as it says anything."""
    patch.setattr(node_plan, "_speaks_again", lambda voice, since_ns, silent_ns, patience: voice.last_ns > since_ns)


def evict_all(patch: pytest.MonkeyPatch) -> None:
    """Evictions are not rate-limited."""
    patch.setattr(node_plan, "_evictions_left", lambda nodes, now_ns: 1000)


def forget_events(patch: pytest.MonkeyPatch) -> None:
    """The log says that it has kept what it has not."""
    whole = MemoryLog.append

    def append(self: MemoryLog, time_ns: int, events: Any, archive: Any = (), about: Any = ()) -> int:
        kept = [event for event in events if not event[0].startswith("StepStarted")]
        return whole(self, time_ns, kept, archive) if kept else self.last_seq

    patch.setattr(MemoryLog, "append", append)


def lose_the_requeued(patch: pytest.MonkeyPatch) -> None:
    """A task that is queued again is never looked at."""
    normal = changes.APPLY[changes.TaskRequeued]

    def requeued(site: Any, index: Any, event: Any, at_ns: int) -> None:
        normal(site, index, event, at_ns)
        index.queue.drop(event.job)

    patch.setitem(changes.APPLY, changes.TaskRequeued, requeued)


def keep_the_rate(patch: pytest.MonkeyPatch) -> None:
    """Usage grows when a lease begins, and never falls again."""
    normal = account_rules.hold

    def hold(accounts: Any, account: Any, rate_m: int, at_ns: int) -> None:
        normal(accounts, account, max(rate_m, 0), at_ns)

    patch.setattr(changes, "hold", hold)


def blame_the_drained(patch: pytest.MonkeyPatch) -> None:
    """A task that was stopped for a drain fails."""
    normal = rules.outcome_of

    def outcome_of(job: Any, task: Any, ends: Any, lost: Cause = Cause.STEP_LOST) -> Any:
        found = normal(job, task, ends, lost)
        return replace(found, again=None, state=rules.FAILED) if found.again is Cause.DRAIN else found

    patch.setattr(rules, "outcome_of", outcome_of)


def ignore_the_throttle(patch: pytest.MonkeyPatch) -> None:
    """Every task of an array starts at once."""
    unbound = property(lambda job: 0 if job.waits_for or job.cancelled or job.ended_ns else job.waiting)
    patch.setattr(rules.Job, "placeable", unbound)


def fewer_at_once(patch: pytest.MonkeyPatch) -> None:
    """Replicas become fewer as soon as fewer would be enough."""
    normal = inference_plan.scale

    def scale(deployment: Any, memory: Any, queue: Any, now_ns: int, pace: Any) -> Any:
        return normal(deployment, memory, queue, now_ns, inference_plan.Pace(0, 0))

    patch.setattr(inference_plan, "scale", scale)


def one_too_many(patch: pytest.MonkeyPatch) -> None:
    """There are more replicas than the deployment allows."""
    patch.setattr(inference_plan, "wanted", lambda queue, parallel: 99)
    patch.setattr(inference_plan, "min", max, raising=False)


def sleep_on(patch: pytest.MonkeyPatch) -> None:
    """What sleeps wakes late."""
    normal = inference_plan.plan

    def plan(site: Any, state: Any, load: Any, memories: Any, now_ns: int, pace: Any) -> Any:
        return normal(
            site, state, load if now_ns // 1_000_000_000 % 10 == 0 else inference_plan.Load(), memories, now_ns, pace
        )

    patch.setattr(replicas, "plan", plan)


BROKEN: list[tuple[Patch, str, set[str]]] = [
    (no_fence, "partition", {promises.COMMIT}),
    (no_keys, "head-crash", {promises.TWICE, promises.LOST}),
    (back_with_a_word, "partition", {promises.CAPACITY}),
    (evict_all, "partition", {promises.EVICTION}),
    (forget_events, "head-crash", {promises.REPLAY}),
    (lose_the_requeued, "churn", {ending.STUCK}),
    (keep_the_rate, "calm", {ending.BALANCE}),
    (blame_the_drained, "calm", {promises.BLAME}),
    (ignore_the_throttle, "calm", {promises.LEASE}),
    (fewer_at_once, "models", {promises.SCALE}),
    (one_too_many, "models", {promises.SCALE}),
    (sleep_on, "models", {askers.WAKE}),
]


@pytest.mark.parametrize(("breaks", "world", "promise"), BROKEN, ids=[case[0].__name__ for case in BROKEN])
def test_what_is_broken_is_reported(
    breaks: Patch, world: str, promise: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks(monkeypatch)
    outcome = first_broken(replace(load(world), settle_s=240))
    assert outcome.broken in promise, outcome.what
    assert outcome.repeat.startswith(f"myc sim {world} --seed ")
    assert any("log" in line for line in outcome.trace)


def test_a_head_that_crashes_by_a_fault_of_its_own_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Core, now_ns: int) -> None:
        raise KeyError("job-1")

    monkeypatch.setattr(Core, "_plan", fails)
    outcome = Simulation(load("calm"), 1).run()
    assert outcome.broken == "the head does not crash"
    assert "KeyError" in outcome.what
