"""How a batch stands, in the words of jobs: its state, how far it is, when it should be done, and what holds it up.

A batch is a job whose lines are work items of the lowest class: whoever waits for an answer goes first.
Never: reads a clock, or looks anything up that did not come in.
"""

from __future__ import annotations

from msgspec import Struct

from mycelium.base.units import S_NS, format_time_ms
from mycelium.inference.commands import DeploymentQueue
from mycelium.inference.model import BATCH_ENDED, Batch, BatchState, Inference, ReplicaState
from mycelium.inference.plan import Load
from mycelium.jobs.model import JobState

EARLY_NS = S_NS  # before it the pace of a batch says nothing


class BatchProgress(Struct, frozen=True):
    """`left_ms`: until the last line, at the pace so far; None where nobody can say. `says`: sentences, best first."""

    state: str
    left_ms: int | None
    running: int
    says: tuple[str, ...]


def state_of(batch: Batch) -> str:
    """The state of the job that it is."""
    match batch.state:
        case BatchState.COMPLETED:
            return JobState.DONE.value
        case BatchState.FAILED | BatchState.EXPIRED:
            return JobState.FAILED.value
        case BatchState.CANCELLED:
            return JobState.CANCELLED.value
        case BatchState.CANCELLING:
            return "stopping"
        case _:
            return JobState.RUNNING.value if batch.done else JobState.QUEUED.value


def progress(batch: Batch, state: Inference, load: Load, now_ns: int) -> BatchProgress:
    queue = load.queues.get(batch.model, DeploymentQueue(batch.model))
    others = _beside(batch, state)
    running = queue.batch_lines if state_of(batch) in ("running", "queued") and not others else 0
    says = _ended(batch) if batch.state in BATCH_ENDED else _alive(batch, state, queue, others, now_ns)
    left = batch.total - batch.completed - batch.failed
    return BatchProgress(state_of(batch), left_ms(batch, now_ns), min(running, left), tuple(says))


def left_ms(batch: Batch, now_ns: int) -> int | None:
    """At the pace of all its lines until now."""
    begun_ns = batch.times_ns.get(BatchState.IN_PROGRESS.value, 0)
    done = batch.completed + batch.failed
    if batch.state is not BatchState.IN_PROGRESS or not done or now_ns - begun_ns < EARLY_NS:
        return None
    return (now_ns - begun_ns) * (batch.total - done) // done // 1_000_000


def _beside(batch: Batch, state: Inference) -> list[str]:
    """Other batches that the same replicas work on."""
    return [
        other.id
        for other in state.batches.values()
        if other.model == batch.model and other.id != batch.id and other.state is BatchState.IN_PROGRESS
    ]


def _ended(batch: Batch) -> list[str]:
    if batch.state is BatchState.FAILED:
        mistakes = [f"line {m.line}: {m.message}" if m.line else m.message for m in batch.mistakes[:10]]
        many = "a mistake" if len(batch.mistakes) == 1 else f"{len(batch.mistakes)} mistakes"
        return [f"{batch.id} has failed: its file has {many}.", *mistakes]
    said = (
        f"{batch.id} has ended: it is {batch.state.value}, {batch.completed:,} of {batch.total:,} lines were answered"
    )
    failed = f", {batch.failed - batch.unrun:,} failed" if batch.failed > batch.unrun else ""
    return [said + failed + (f", {batch.unrun:,} were not run." if batch.unrun else ".")]


def _alive(batch: Batch, state: Inference, queue: DeploymentQueue, others: list[str], now_ns: int) -> list[str]:
    done = batch.completed + batch.failed
    if batch.state is BatchState.VALIDATING:
        return [f"{batch.id} was submitted; its file is being looked at."]
    if batch.state is not BatchState.IN_PROGRESS:
        return [f"{batch.id} is {batch.state.value}: {done:,} of its {batch.total:,} lines are done."]
    held = _held_up(batch, state)
    says = [held] if held else []
    says.append(f"{done:,} of its {batch.total:,} lines are done.")
    if not held and (queue.waiting or queue.active):
        says.append(f"{queue.active} requests of people run and {queue.waiting} wait; they go first.")
    if others:
        says.append(f"It shares the replicas of {batch.model} with {', '.join(others[:3])}.")
    left = left_ms(batch, now_ns)
    if left is not None and not held:
        says.append(f"It is expected to be done in about {format_time_ms(left)}. This rests on its pace until now.")
        if now_ns + left * 1_000_000 > batch.expires_ns:
            says.append(
                f"Its window ends before that, in {format_time_ms((batch.expires_ns - now_ns) // 1_000_000)}:"
                " what is not done then, is not run."
            )
    return says


def _held_up(batch: Batch, state: Inference) -> str:
    """Why no line of it can run now, or nothing."""
    deployment = state.deployments.get(batch.model)
    if deployment is None or deployment.leaving:
        return f"{batch.model} is not served any more: its lines wait until it is, or until their time is over."
    if deployment.serving.upstream:
        return ""
    replicas = state.replicas_of(deployment.name)
    if any(replica.state is ReplicaState.READY for replica in replicas):
        return ""
    if deployment.failures:
        return f"No replica of {deployment.name} is ready: the last one failed: {deployment.message}."
    jobs = ", ".join(replica.job for replica in replicas)
    return f"No replica of {deployment.name} is ready" + (f"; {jobs} is about to be." if jobs else "; one is to start.")
