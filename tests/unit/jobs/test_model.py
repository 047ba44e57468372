"""Jobs and tasks as records."""

from __future__ import annotations

from msgspec.structs import replace

from mycelium.base.ids import AccountId, JobId, NodeId
from mycelium.jobs.model import ENDED, LEASED, TASK_ENDED, Array, Ended, Job, JobState, Reason, Request, Task, TaskState
from mycelium.nodes.model import Devices

GOOD = Ended(Reason.EXIT, 0)


def job(array: Array | None = None, **keys: object) -> Job:
    request = Request(("true",), "true", Devices(1000), 1000, array=array)
    return replace(Job(JobId("job-7"), AccountId("account-1"), request, JobState.QUEUED, 0), **keys)


def test_an_array_holds_its_last_index_only_when_a_step_meets_it() -> None:
    assert list(Array(0, 9, 4).indices) == [0, 4, 8]
    assert list(Array(3, 3).indices) == [3]
    assert list(Array(2, 8, 3).indices) == [2, 5, 8]


def test_a_job_that_is_no_array_has_one_task_of_its_own_name() -> None:
    single = job()
    assert (single.size, single.index_at(0), single.task_name(0)) == (1, 0, "job-7")
    assert single.step_name(0, 2, 1) == "job-7-a2-r1"
    assert job(Array(4, 6)).step_name(5, 1, 0) == "job-7.5-a1-r0"


def test_what_waits_is_neither_leased_nor_ended() -> None:
    assert job(Array(0, 9), leased=3, ended=4).waiting == 3


def test_a_throttle_bounds_what_may_be_placed() -> None:
    assert job(Array(0, 9, 1, 4), leased=3).placeable == 1
    assert job(Array(0, 9, 1, 4), leased=4).placeable == 0
    assert job(Array(0, 9, 1, 40), leased=4).placeable == 6


def test_nothing_of_a_held_cancelled_or_ended_job_is_placed() -> None:
    assert job(state=JobState.BLOCKED).placeable == 0
    assert job(cancelled=True).placeable == 0
    assert all(job(state=state).placeable == 0 for state in ENDED)


def test_a_rank_lives_until_its_end_is_known() -> None:
    nodes = (NodeId("node-1"), NodeId("node-2"))
    task = Task(0, TaskState.RUNNING, 1, nodes, (None, GOOD))
    assert task.live_ranks() == [0]
    assert replace(task, state=TaskState.QUEUED).live_ranks() == []


def test_the_states_of_a_task_are_waiting_leased_or_ended() -> None:
    assert LEASED | TASK_ENDED | {TaskState.QUEUED} == set(TaskState)
    assert not LEASED & TASK_ENDED
