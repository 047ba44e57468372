"""The rules of jobs: what is refused, what becomes of a task, and how a job ends."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mycelium.base.errors import Conflict, Denied, Exhausted, Missing, Refused
from mycelium.base.ids import JobId, NodeId
from mycelium.base.limits import KEYS_KEPT_S
from mycelium.base.units import GIB, S_NS
from mycelium.jobs import admit
from mycelium.jobs.apply import APPLY
from mycelium.jobs.commands import Cancel
from mycelium.jobs.domain import index_of
from mycelium.jobs.events import StepStarted, TaskEnded, TaskPlaced, TaskRequeued, TaskStopping
from mycelium.jobs.model import (
    TASK_ENDED,
    Array,
    Cause,
    Ended,
    Job,
    JobState,
    Reason,
    Request,
    Sandbox,
    Task,
    TaskState,
)
from mycelium.jobs.rules import FROM, outcome_of
from mycelium.nodes.model import Devices
from tests.unit.head.played import ADA, BAD, GOOD, LOST, ROOT, STOPPED, Played, array, request

# What is refused at the door.


def test_a_job_that_no_node_could_ever_run_is_refused_with_the_bound() -> None:
    site = Played()
    with pytest.raises(Refused, match="job asks for 9 cpus; the largest node has 4"):
        site.submit(request(9))
    with pytest.raises(Refused, match="job asks for 1 gpus; the largest node has 0"):
        site.submit(request(gpus=1))
    with pytest.raises(Refused, match="job asks for 3 nodes; 2 could ever serve it"):
        site.submit(request(nodes=3))
    with pytest.raises(Refused, match="no node has the labels 'gpu'"):
        site.submit(request(on=("gpu",)))


def test_a_job_that_needs_what_only_two_nodes_together_have_is_refused() -> None:
    site = Played(nodes=0)
    site.hello("node-1", cpus=8, big="cpu")
    site.hello("node-2", cpus=2)
    needs = Devices(4000, 16 * GIB)
    with pytest.raises(Refused, match="memory"):
        site.submit(Request(("true",), "x", needs, 1000))


def test_a_site_without_nodes_refuses_nothing() -> None:
    site = Played(nodes=0)
    assert site.submit(request(64))


def test_what_was_possible_is_asked_again_when_the_nodes_change() -> None:
    site = Played()
    site.submit(request(4))
    site.hello("node-1", cpus=2)
    site.hello("node-2", cpus=2)
    with pytest.raises(Refused):
        site.submit(request(4))


def test_only_an_admin_runs_without_a_sandbox() -> None:
    site = Played()
    with pytest.raises(Denied):
        site.submit(request(sandbox=Sandbox.NONE))
    assert site.submit(request(sandbox=Sandbox.NONE), account=ROOT)


def test_a_site_that_cannot_sandbox_says_how_it_could() -> None:
    site = Played(nodes=0)
    site.hello("node-1", sandbox="none")
    with pytest.raises(Refused) as refused:
        site.submit()
    assert "bubblewrap" in refused.value.hint


def test_all_of_a_submit_is_accepted_or_none_of_it() -> None:
    site = Played()
    with pytest.raises(Refused):
        site.submit(request(), request(99))
    assert site.core.site.jobs.by_id == {}


def test_what_a_job_comes_after_must_exist_and_be_able_to_end_well() -> None:
    site = Played()
    with pytest.raises(Missing):
        site.submit(request(after=(JobId("job-9"),)))
    site.submit()
    site.exited("node-1", "job-1-a1-r0", BAD)
    with pytest.raises(Refused, match="job-1 failed"):
        site.submit(request(after=(JobId("job-1"),)))


def test_a_job_after_one_that_is_done_waits_for_nothing() -> None:
    site = Played()
    site.submit()
    site.exited("node-1", "job-1-a1-r0")
    site.submit(request(after=(JobId("job-1"),)))
    assert site.job("job-2").state is JobState.RUNNING


def test_a_full_queue_takes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admit, "QUEUED_JOBS_MAX", 2)
    site = Played()
    site.submit(request(), request())
    with pytest.raises(Exhausted, match="2 jobs that have not ended"):
        site.submit()
    site.exited("node-1", "job-1-a1-r0")
    assert site.submit()


def test_a_key_is_forgotten_after_a_day_one_for_each_that_comes() -> None:
    site = Played()
    site.submit(key="old")
    site.now_ns += (KEYS_KEPT_S + 1) * S_NS
    assert site.submit(key="new") == ("job-2",)
    assert list(site.core.site.jobs.keys) == ["account-2/new"]
    assert site.submit(key="old") == ("job-3",)


def test_one_key_remembers_all_the_jobs_of_its_submit() -> None:
    site = Played()
    first = site.submit(request(), request(2), key="k")
    assert site.submit(request(), request(2), key="k") == first == ("job-1", "job-2")
    with pytest.raises(Conflict):
        site.submit(request(), key="k")


# What becomes of an attempt: the whole table.

TIMED = Ended(Reason.TIME, 143)
UNFIT = Ended(Reason.FAILED_START, 127, "no such command")


@pytest.mark.parametrize(
    ("cause", "ends", "again", "state"),
    [
        (None, [GOOD], None, TaskState.DONE),
        (Cause.CANCEL, [GOOD], None, TaskState.DONE),
        (Cause.CANCEL, [STOPPED], None, TaskState.CANCELLED),
        (Cause.CANCEL, [LOST], None, TaskState.CANCELLED),
        (None, [BAD], Cause.RETRY, TaskState.QUEUED),
        (None, [TIMED], Cause.RETRY, TaskState.QUEUED),
        (None, [UNFIT], Cause.RETRY, TaskState.QUEUED),
        (None, [LOST], Cause.STEP_LOST, TaskState.QUEUED),
        (Cause.DRAIN, [STOPPED], Cause.DRAIN, TaskState.QUEUED),
        (Cause.DRAIN, [LOST], Cause.DRAIN, TaskState.QUEUED),
        (Cause.SITE_DOWN, [STOPPED], Cause.SITE_DOWN, TaskState.QUEUED),
        (Cause.STEP_LOST, [STOPPED], Cause.STEP_LOST, TaskState.QUEUED),
        (Cause.STEP_LOST, [BAD], Cause.RETRY, TaskState.QUEUED),
        (Cause.TIME, [STOPPED], Cause.RETRY, TaskState.QUEUED),
        (Cause.GANG, [BAD, STOPPED], Cause.RETRY, TaskState.QUEUED),
        (Cause.GANG, [GOOD, STOPPED, BAD], Cause.RETRY, TaskState.QUEUED),
        (Cause.GANG, [BAD, LOST], Cause.RETRY, TaskState.QUEUED),
        (Cause.NODE_LOST, [LOST, STOPPED], Cause.NODE_LOST, TaskState.QUEUED),
        (Cause.NODE_LOST, [LOST, BAD], Cause.NODE_LOST, TaskState.QUEUED),
        (Cause.STEP_LOST, [LOST, STOPPED], Cause.STEP_LOST, TaskState.QUEUED),
    ],
)
def test_what_becomes_of_an_attempt(
    cause: Cause | None, ends: list[Ended], again: Cause | None, state: TaskState
) -> None:
    job = Job(JobId("job-1"), ADA, request(retries=1), JobState.RUNNING, 0)
    task = Task(0, TaskState.STOPPING, 1, (NodeId("node-1"),) * len(ends), tuple(ends), cause)
    outcome = outcome_of(job, task, ends)
    assert (outcome.again, outcome.state) == (again, state)


def test_a_failure_without_retries_left_is_the_end() -> None:
    job = Job(JobId("job-1"), ADA, request(), JobState.RUNNING, 0)
    task = Task(0, TaskState.RUNNING, 1, (NodeId("node-1"),), (None,))
    for ended, exit_code, message in (
        (BAD, 3, "exited with 3"),
        (TIMED, 143, "reached its time limit"),
        (UNFIT, 127, "no such command"),
        (Ended(Reason.MEMORY, 137), 137, "used more memory than it asked for"),
    ):
        outcome = outcome_of(job, task, [ended])
        assert (outcome.state, outcome.exit_code, outcome.message) == (TaskState.FAILED, exit_code, message)


def test_a_cancelled_job_tries_nothing_again() -> None:
    job = Job(JobId("job-1"), ADA, request(retries=5), JobState.RUNNING, 0, cancelled=True)
    for ended in (BAD, LOST, STOPPED):
        assert outcome_of(job, Task(0, TaskState.RUNNING, 1), [ended]).state is TaskState.CANCELLED


def test_what_a_good_end_left_out_of_its_outputs_stays_known() -> None:
    job = Job(JobId("job-1"), ADA, request(), JobState.RUNNING, 0)
    ended = Ended(Reason.EXIT, 0, "left out of the outputs: abs")
    outcome = outcome_of(job, Task(0, TaskState.RUNNING, 1), [GOOD, ended])
    assert (outcome.state, outcome.message) == (TaskState.DONE, "left out of the outputs: abs")


# How jobs end.


def test_an_array_fails_with_its_worst_task_and_says_how_many() -> None:
    site = Played()
    site.submit(request(array=array(3)))
    for index, ended in enumerate((GOOD, BAD, Ended(Reason.EXIT, 9))):
        site.exited(site.task(index=index).nodes[0], f"job-1.{index}-a1-r0", ended)
    job = site.job()
    assert (job.state, job.exit_code, job.message) == (JobState.FAILED, 9, "2 of 3 tasks failed")


def test_one_task_of_an_array_is_cancelled_alone() -> None:
    site = Played()
    site.submit(request(array=array(2, throttle=1)))
    site.do(Cancel(ADA, JobId("job-1"), 1))
    site.exited("node-1", "job-1.0-a1-r0")
    job = site.job()
    assert (job.state, job.message) == (JobState.CANCELLED, "1 of 2 tasks were cancelled")


def test_a_cancel_of_a_task_that_does_not_exist_is_missing() -> None:
    site = Played()
    site.submit(request(), request(array=Array(0, 8, 2)))
    for job, index in (("job-1", 0), ("job-2", 1), ("job-2", 10)):
        with pytest.raises(Missing, match="has no task"):
            site.do(Cancel(ADA, JobId(job), index))


def test_a_cancel_is_said_once() -> None:
    site = Played()
    site.submit()
    site.do(Cancel(ADA, JobId("job-1")))
    before = len(site.events)
    site.do(Cancel(ADA, JobId("job-1")))
    assert len(site.events) == before


def test_a_waiting_array_is_cancelled_at_once_whatever_its_size() -> None:
    site = Played()
    site.submit(request(4, array=array(100_000)))
    assert site.job().leased == 2
    site.do(Cancel(ADA, JobId("job-1")))
    for index in (0, 1):
        site.exited(site.task(index=index).nodes[0], f"job-1.{index}-a1-r0", STOPPED)
    assert site.job().state is JobState.CANCELLED
    assert len(site.job().tasks) == 2


def test_tasks_that_were_cancelled_before_they_began_are_stepped_over() -> None:
    site = Played()
    site.submit(request(4, array=array(6)))
    for index in (2, 4):
        site.do(Cancel(ADA, JobId("job-1"), index))
    site.exited(site.task(index=0).nodes[0], "job-1.0-a1-r0")
    assert site.starts() == ["job-1.3-a1-r0"]
    site.exited(site.task(index=1).nodes[0], "job-1.1-a1-r0")
    assert site.starts() == ["job-1.5-a1-r0"]


def test_a_held_job_whose_tasks_are_all_cancelled_has_ended() -> None:
    site = Played()
    site.submit()
    site.submit(request(array=array(2), after=(JobId("job-1"),)))
    for index in (0, 1):
        site.do(Cancel(ADA, JobId("job-2"), index))
    assert site.job("job-2").state is JobState.CANCELLED
    site.exited("node-1", "job-1-a1-r0")
    assert site.job("job-2").state is JobState.CANCELLED


def test_a_job_that_waits_for_two_starts_after_both() -> None:
    site = Played()
    site.submit(request(), request())
    site.submit(request(after=(JobId("job-1"), JobId("job-2"))))
    site.exited("node-1", "job-1-a1-r0")
    assert site.job("job-3").waits_for == ("job-2",)
    site.exited(site.task("job-2").nodes[0], "job-2-a1-r0")
    assert site.starts() == ["job-3-a1-r0"]


def test_a_diamond_is_cancelled_once() -> None:
    site = Played()
    site.submit()
    first = (JobId("job-1"),)
    site.submit(request(after=first), request(after=first))
    site.submit(request(after=(JobId("job-2"), JobId("job-3"))))
    site.exited("node-1", "job-1-a1-r0", BAD)
    assert site.kinds().count("JobEnded") == 4
    assert index_of(site.core.view).waiters == {}


# The table.


def test_the_table_says_from_where_each_event_may_come() -> None:
    assert FROM[TaskPlaced] == {TaskState.QUEUED}
    assert not FROM[StepStarted] & TASK_ENDED
    assert not any(states & TASK_ENDED for states in FROM.values())
    assert set(FROM) == {TaskPlaced, StepStarted, TaskStopping, TaskRequeued, TaskEnded}


def test_every_event_of_a_job_is_applied_by_the_table() -> None:
    from typing import get_args

    from mycelium.jobs.events import JobEvent

    assert set(APPLY) == set(get_args(JobEvent))


# Elastic gangs: rank 0 decides, and the attempt goes on without those of the others that end.


def elastic(**keys: int) -> Played:
    site = Played(nodes=3)
    site.submit(request(nodes=3, elastic=True, **keys))
    for rank in range(3):
        site.started(f"node-{rank + 1}", f"job-1-a1-r{rank}")
    return site


@pytest.mark.parametrize("ended", [GOOD, BAD, LOST, STOPPED])
def test_an_elastic_gang_goes_on_without_a_worker(ended: Ended) -> None:
    site = elastic()
    site.exited("node-2", "job-1-a1-r1", ended)
    assert (site.task().state, site.stops()) == (TaskState.RUNNING, [])
    site.exited("node-1", "job-1-a1-r0", GOOD)
    assert (site.task().state, site.stops()) == (TaskState.STOPPING, ["job-1-a1-r2"])
    site.exited("node-3", "job-1-a1-r2", STOPPED)
    assert (site.job().state, site.task().attempt) == (JobState.DONE, 1)


def test_an_elastic_gang_goes_on_when_a_workers_node_is_lost() -> None:
    site = elastic()
    site.beats(90, node_1=["job-1-a1-r0"], node_2=["job-1-a1-r1"])
    assert site.node("node-3").state.value == "lost"
    assert (site.task().state, site.task().attempt, site.task().live_ranks()) == (TaskState.RUNNING, 1, [0, 1])


@pytest.mark.parametrize(
    ("ended", "cause", "state"),
    [
        (BAD, Cause.LEAD, JobState.FAILED),
        (Ended(Reason.MEMORY, 137), Cause.LEAD, JobState.FAILED),
        (LOST, Cause.STEP_LOST, JobState.RUNNING),  # the next attempt, at once
    ],
)
@pytest.mark.parametrize("last", [GOOD, STOPPED, LOST])
def test_the_end_of_rank_0_decides_whatever_the_others_become(
    ended: Ended, cause: Cause, state: JobState, last: Ended
) -> None:
    site = elastic()
    site.exited("node-1", "job-1-a1-r0", ended)
    assert (site.task().state, site.task().cause) == (TaskState.STOPPING, cause)
    site.exited("node-2", "job-1-a1-r1", STOPPED)
    site.exited("node-3", "job-1-a1-r2", last)
    assert site.job().state is state
    assert site.task().attempt == (2 if ended is LOST else 1)


def test_a_worker_that_its_node_no_longer_names_is_let_go_alone() -> None:
    site = elastic()
    site.beats(4, node_1=["job-1-a1-r0"], node_2=[], node_3=["job-1-a1-r2"])
    assert site.task().state is TaskState.RUNNING
    site.exited("node-2", "job-1-a1-r1", LOST)
    assert (site.task().state, site.task().live_ranks()) == (TaskState.RUNNING, [0, 2])


def test_the_ranks_of_an_attempt_share_a_secret_that_no_other_attempt_has() -> None:
    from mycelium.head.steps import build_step

    site = elastic()
    secrets = {build_step(site.core.site, site.job(), site.task(), rank).env["MYC_GANG_SECRET"] for rank in range(3)}
    again = replace(site.task(), attempt=2)
    assert len(secrets) == 1
    assert build_step(site.core.site, site.job(), again, 0).env["MYC_GANG_SECRET"] not in secrets
