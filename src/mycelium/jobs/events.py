"""What can happen to a job. Field names and meanings are for ever; see head/codec.py for how versions change."""

from __future__ import annotations

from msgspec import Struct

from mycelium.base.ids import AccountId, JobId, NodeId
from mycelium.jobs.model import Cause, Ended, JobState, Request, TaskState


class JobSubmitted(Struct, frozen=True):
    job: JobId
    account: AccountId
    request: Request
    waits_for: tuple[JobId, ...] = ()  # of request.after, those that had not ended then
    key: str = ""
    print: str = ""


class JobReleased(Struct, frozen=True):
    """A job it came after is done; `still` are those that are not."""

    job: JobId
    after: JobId
    still: tuple[JobId, ...]


class JobCancelled(Struct, frozen=True):
    """No further task starts. Ends when its running tasks have stopped."""

    job: JobId
    by: str
    why: str = ""


class JobEnded(Struct, frozen=True):
    job: JobId
    state: JobState
    exit_code: int
    message: str = ""


class JobArchived(Struct, frozen=True):
    """The job left memory for the archive."""

    job: JobId


class TaskPlaced(Struct, frozen=True):
    job: JobId
    index: int
    attempt: int
    nodes: tuple[NodeId, ...]
    port: int = 0  # of a gang: one that the node of rank 0 holds for it


class StepStarted(Struct, frozen=True):
    job: JobId
    index: int
    attempt: int
    rank: int
    started_ns: int


class StepEnded(Struct, frozen=True):
    job: JobId
    index: int
    attempt: int
    rank: int
    ended: Ended


class TaskStopping(Struct, frozen=True):
    job: JobId
    index: int
    attempt: int
    cause: Cause
    by: str = ""


class TaskRequeued(Struct, frozen=True):
    """This attempt is over and commits nothing; the task waits for the next one."""

    job: JobId
    index: int
    attempt: int
    cause: Cause
    message: str = ""


class TaskEnded(Struct, frozen=True):
    """The one commit of a task: its exit code, and through its ends the outputs of this attempt and no other."""

    job: JobId
    index: int
    attempt: int
    state: TaskState
    exit_code: int
    message: str = ""


JobEvent = (
    JobSubmitted
    | JobReleased
    | JobCancelled
    | JobEnded
    | JobArchived
    | TaskPlaced
    | StepStarted
    | StepEnded
    | TaskStopping
    | TaskRequeued
    | TaskEnded
)
