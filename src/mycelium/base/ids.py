"""Typed names. Every id is printed with its kind: `job-17`, `job-7.42`, `node-3`, `account-1`.

An array's tasks are `job-7.42`; a job that is no array has one task, and its name is the job's.
A step's name says job, task, attempt and rank: `job-7.42-a2-r0`; it is also the name of the step's directory.
"""

from __future__ import annotations

import re
from typing import NewType

from mycelium.base.errors import Refused

JobId = NewType("JobId", str)
TaskId = NewType("TaskId", str)
StepId = NewType("StepId", str)
NodeId = NewType("NodeId", str)
AccountId = NewType("AccountId", str)
Digest = NewType("Digest", str)  # 64 hexadecimal characters of BLAKE3: the name of an object

_JOB = re.compile(r"(?:job-)?([1-9]\d{0,17})")
_TASK = re.compile(r"(?:job-)?([1-9]\d{0,17})(?:\.(0|[1-9]\d{0,9}))?")
_STEP = re.compile(r"job-([1-9]\d{0,17})(?:\.(0|[1-9]\d{0,9}))?-a([1-9]\d{0,9})-r(0|[1-9]\d{0,5})")
_NODE = re.compile(r"node-[1-9]\d{0,17}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def job_id(number: int) -> JobId:
    return JobId(f"job-{number}")


def node_id(number: int) -> NodeId:
    return NodeId(f"node-{number}")


def account_id(number: int) -> AccountId:
    return AccountId(f"account-{number}")


def number_of(name: str) -> int:
    """The number in `job-17`, `node-3` or `account-1`: the order in which they were made."""
    return int(name[name.index("-") + 1 :])


def task_id(job: JobId, index: int | None) -> TaskId:
    return TaskId(job if index is None else f"{job}.{index}")


def step_id(task: TaskId, attempt: int, rank: int) -> StepId:
    return StepId(f"{task}-a{attempt}-r{rank}")


def split_step(step: str) -> tuple[JobId, int | None, int, int]:
    """Job, array index (None when it is no array), attempt and rank of a step's name."""
    match = _STEP.fullmatch(step)
    if match is None:
        raise Refused(
            f"{step[:80]!r} is not the name of a step", hint="steps are named like job-7-a1-r0 and job-7.42-a1-r0"
        )
    index = None if match[2] is None else int(match[2])
    return JobId(f"job-{match[1]}"), index, int(match[3]), int(match[4])


def parse_job(text: str) -> JobId:
    """`job-17` or `17`."""
    match = _JOB.fullmatch(text.strip())
    if match is None:
        raise Refused(f"{text[:40]!r} is not a job", hint="jobs are named like job-17")
    return JobId(f"job-{match[1]}")


def parse_task(text: str) -> tuple[JobId, int | None]:
    """`job-7.42` or `job-7`: the job, and the array index if one was named."""
    match = _TASK.fullmatch(text.strip())
    if match is None:
        raise Refused(
            f"{text[:40]!r} is not a job or a task", hint="jobs are named like job-17, array tasks like job-7.42"
        )
    return JobId(f"job-{match[1]}"), None if match[2] is None else int(match[2])


def is_node(text: str) -> bool:
    return _NODE.fullmatch(text) is not None


def parse_digest(text: str) -> Digest:
    if _DIGEST.fullmatch(text) is None:
        raise Refused(f"{text[:80]!r} is not the name of an object", hint="objects are named by 64 hexadecimal digits")
    return Digest(text)
