"""The story of a job, in words."""

from __future__ import annotations

from mycelium.base.ids import AccountId, JobId, NodeId
from mycelium.head.domains import mounted
from mycelium.head.history import say as say_in
from mycelium.jobs.events import JobSubmitted, StepEnded, TaskEnded, TaskPlaced, TaskRequeued
from mycelium.jobs.model import Array, Cause, Ended, Reason, Request, TaskState
from mycelium.jobs.story import CAUSES, SENTENCES, say
from mycelium.nodes.model import Devices
from tests.unit.head.played import Played

JOB = JobId("job-7")


def test_every_kind_of_event_has_a_sentence() -> None:
    kinds = mounted().kinds
    assert all(callable(kind.says) for kind in kinds.values())
    assert set(SENTENCES) < set(kinds)


def test_every_cause_has_words() -> None:
    assert set(CAUSES) == set(Cause)


def test_a_submit_says_who_asked_for_what_and_what_it_waits_for() -> None:
    request = Request(("true",), "a", Devices(2000, 1 << 30), 600_000, array=Array(0, 9), on=("gpu",))
    said = say(JobSubmitted(JOB, AccountId("account-1"), request, (JobId("job-3"),)))
    assert said == ("account-1 submitted 'a': 10 tasks of 2 cpus, 1G for at most 10m, on gpu; it waits for job-3")


def test_an_array_tasks_sentence_names_the_task() -> None:
    core = Played().core
    assert say_in(core, TaskPlaced(JOB, 3, 1, (NodeId("node-2"),)), array=True) == "job-7.3: attempt 1 was given node-2"
    assert say_in(core, TaskPlaced(JOB, 0, 2, (NodeId("node-2"),))) == "attempt 2 was given node-2"


def test_an_end_says_how_and_what_was_used() -> None:
    ended = Ended(Reason.MEMORY, 137, started_ns=1, ended_ns=2_500_000_001, cpu_ms=1200, memory_peak_bytes=3 << 20)
    said = say(StepEnded(JOB, 0, 1, 0, ended))
    assert said.startswith("attempt 1 was killed: it used more memory than it asked for after 2.5s")
    assert said.endswith("having used 1.2s of cpu and 3M at its peak")


def test_a_requeue_and_a_commit_are_told_apart() -> None:
    again = say(TaskRequeued(JOB, 0, 1, Cause.NODE_LOST, "node-3 was lost"))
    assert again == "queued again as attempt 2: its node was lost (node-3 was lost)"
    assert say(TaskEnded(JOB, 0, 2, TaskState.DONE, 0)) == "done: attempt 2 was committed"
    assert say(TaskEnded(JOB, 0, 2, TaskState.FAILED, 3)) == "failed with exit code 3"
