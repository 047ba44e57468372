"""The core's turns, in the system's own words."""

from __future__ import annotations

import pytest

from mycelium.base.errors import Conflict, Denied, Missing, Refused, Unavailable
from mycelium.base.ids import AccountId, JobId, NodeId
from mycelium.base.limits import ORDERS_REMEMBERED_MAX
from mycelium.base.units import S_NS
from mycelium.engine.seam import NodeDown
from mycelium.head.codec import SNAPSHOT_VERSION, decode_job
from mycelium.head.core import Core, HeadSettings, Tick
from mycelium.jobs.commands import Cancel, StopAll, Submit
from mycelium.jobs.domain import Retention
from mycelium.jobs.model import Cause, JobState, TaskState
from mycelium.log import MemoryLog
from mycelium.nodes.model import NodeState
from mycelium.nodes.rules import Drain, Remove, Return
from tests.asked import asked
from tests.unit.head.played import ADA, BAD, BEN, GOOD, LOST, NOW_NS, ROOT, STOPPED, Played, array, request

STEP = "job-1-a1-r0"

# A job's life.


def test_a_job_is_placed_started_and_done() -> None:
    site = Played()
    assert site.submit() == ("job-1",)
    assert site.starts() == [STEP]
    assert site.task().state is TaskState.PLACED
    site.started("node-1", STEP)
    assert site.task().state is TaskState.RUNNING
    site.exited("node-1", STEP)
    assert (site.job().state, site.job().exit_code) == (JobState.DONE, 0)
    assert site.forgets() == [STEP]


def test_nobody_is_answered_before_the_log_is_durable() -> None:
    site = Played()
    site.log.fail_at = {site.log.last_seq + 1}
    with pytest.raises(Unavailable):
        site.core.turn([asked(site.core, Submit(ADA, (request(),), "k"))], site.now_ns)


def test_a_job_that_fails_is_tried_again_as_often_as_it_asked() -> None:
    site = Played()
    site.submit(request(retries=1))
    site.exited("node-1", STEP, BAD)
    assert site.starts() == ["job-1-a2-r0"]
    site.exited("node-1", "job-1-a2-r0", BAD)
    assert (site.job().state, site.job().exit_code) == (JobState.FAILED, 3)


def test_a_step_ends_before_it_is_forgotten_even_when_the_next_attempt_begins_in_the_same_turn() -> None:
    site = Played()
    site.submit(request(retries=1))
    site.exited("node-1", STEP, BAD)
    assert site.forgets() == [STEP]
    assert STEP not in site.core._mouth._sent_ns


def test_an_array_keeps_its_throttle() -> None:
    site = Played()
    site.submit(request(array=array(5, throttle=2)))
    assert len(site.starts()) == 2
    site.exited("node-1", "job-1.0-a1-r0")
    assert site.starts() == ["job-1.2-a1-r0"]


def test_a_job_waits_for_those_it_comes_after() -> None:
    site = Played()
    site.submit()
    site.submit(request(after=(JobId("job-1"),)))
    assert site.job("job-2").state is JobState.BLOCKED
    site.exited("node-1", STEP)
    assert site.starts() == ["job-2-a1-r0"]


def test_what_comes_after_a_failure_is_cancelled_with_all_behind_it() -> None:
    site = Played()
    site.submit()
    site.submit(request(after=(JobId("job-1"),)))
    site.submit(request(after=(JobId("job-2"),)))
    site.exited("node-1", STEP, BAD)
    assert [site.job(name).state for name in ("job-2", "job-3")] == [JobState.CANCELLED, JobState.CANCELLED]
    assert "job-1 failed" in site.job("job-2").message


# Keys, accounts and refusals.


def test_the_same_key_gives_the_same_job() -> None:
    site = Played()
    assert site.submit(key="k") == site.submit(key="k") == ("job-1",)
    assert len(site.core.site.jobs.by_id) == 1


def test_the_same_key_from_another_account_is_another_key() -> None:
    site = Played()
    assert site.submit(key="k") != site.submit(key="k", account=BEN)


def test_the_same_key_with_another_content_is_a_conflict() -> None:
    site = Played()
    site.submit(key="k")
    with pytest.raises(Conflict):
        site.submit(request(2), key="k")


def test_a_retry_is_answered_even_when_its_inputs_have_left_memory() -> None:
    site = Played(settings=HeadSettings((Retention(10 * S_NS),)))
    site.submit()
    site.exited("node-1", STEP)
    taker = request(after=(JobId("job-1"),), inputs=(JobId("job-1"),))
    first = site.submit(taker, key="k")
    site.exited("node-1", "job-2-a1-r0")
    site.later(11)
    assert "job-1" not in site.core.site.jobs.by_id
    assert site.submit(taker, key="k") == first


def test_an_account_that_does_not_exist_is_missing() -> None:
    with pytest.raises(Missing):
        Played().submit(account=AccountId("account-9"))


def test_nobody_takes_in_the_outputs_of_others() -> None:
    site = Played()
    site.submit()
    taker = request(after=(JobId("job-1"),), inputs=(JobId("job-1"),))
    with pytest.raises(Denied):
        site.submit(taker, account=BEN)
    assert site.submit(taker, account=ROOT)


def test_nobody_cancels_the_jobs_of_others() -> None:
    site = Played()
    site.submit()
    with pytest.raises(Denied):
        site.do(Cancel(BEN, JobId("job-1")))


def test_a_head_that_refuses_says_why() -> None:
    site = Played()
    site.core.refusing = "the disk is full"
    with pytest.raises(Unavailable, match="the disk is full"):
        site.submit()


# Cancelling.


def test_a_running_job_is_cancelled_when_its_steps_are_gone() -> None:
    site = Played()
    site.submit()
    site.started("node-1", STEP)
    site.do(Cancel(ADA, JobId("job-1")))
    assert site.stops() == [STEP]
    assert site.job().state is JobState.RUNNING
    site.exited("node-1", STEP, STOPPED)
    assert site.job().state is JobState.CANCELLED


def test_a_task_that_finished_before_it_could_be_stopped_is_done() -> None:
    site = Played()
    site.submit()
    site.do(Cancel(ADA, JobId("job-1")))
    site.exited("node-1", STEP, GOOD)
    assert site.job().state is JobState.DONE


def test_a_task_that_is_being_moved_can_still_be_cancelled() -> None:
    site = Played()
    site.submit(request(array=array(2)))
    site.do(Drain("node-1", "root", now=True))
    assert site.task().cause is Cause.DRAIN
    site.do(Cancel(ADA, JobId("job-1"), 0))
    assert site.task().cause is Cause.CANCEL
    site.exited("node-1", "job-1.0-a1-r0", STOPPED)
    assert site.task().state is TaskState.CANCELLED


# Attempts: only the current one may commit.


def test_a_late_report_of_an_older_attempt_commits_nothing() -> None:
    site = Played()
    site.submit()
    site.started("node-1", STEP)
    lose(site, "node-1")
    assert site.task().attempt == 2
    before = site.log.last_seq
    site.exited("node-1", STEP, GOOD)
    assert site.log.last_seq == before
    assert site.forgets() == [STEP]
    assert site.job().state is JobState.RUNNING


def test_a_report_from_a_node_that_never_had_the_step_commits_nothing() -> None:
    site = Played()
    site.submit()
    site.exited("node-2", STEP, GOOD)
    assert site.task().state is TaskState.PLACED


def test_a_nonsensical_report_is_answered_and_changes_nothing() -> None:
    site = Played()
    site.exited("node-1", "../../etc", GOOD)
    assert site.forgets() == ["../../etc"]
    assert "StepEnded" not in site.kinds()


def lose(site: Played, node: str) -> None:
    """Let a node be silent until it is lost, while the other one beats."""
    other = "node-2" if node == "node-1" else "node-1"
    for _ in range(17):
        site.now_ns += S_NS
        held = [step_of(site, job.id, index) for job in site.core.site.jobs.by_id.values() for index in job.tasks]
        site.beat(other, *[step for where, step in held if where == other])
    assert site.node(node).state is NodeState.LOST


def step_of(site: Played, job: str, index: int) -> tuple[str, str]:
    task = site.task(job, index)
    return (task.nodes[0] if task.live_ranks() else ""), site.job(job).step_name(index, task.attempt, 0)


# Silent nodes.


def test_a_silent_node_is_suspect_first_and_keeps_its_work() -> None:
    site = Played()
    site.submit()
    site.started("node-1", STEP)
    site.beats(4, node_2=())
    assert site.node().state is NodeState.SUSPECT
    assert site.task().state is TaskState.RUNNING
    site.beat("node-1", STEP)
    site.later(0.1)
    assert site.node().state is NodeState.UP
    assert site.task().attempt == 1


def test_a_lost_node_returns_its_work_to_the_queue() -> None:
    site = Played()
    site.submit()
    lose(site, "node-1")
    assert (site.task().attempt, site.task().nodes, site.task().losses) == (2, ("node-2",), 1)
    assert site.task().cause is None


def test_a_hello_alone_does_not_bring_a_lost_node_back() -> None:
    site = Played()
    site.submit()
    site.started("node-1", STEP)
    lose(site, "node-1")
    site.hello("node-1")
    site.later(0.1)
    assert site.node().state is NodeState.LOST


def test_a_lost_node_that_still_runs_a_stray_is_told_to_stop_it_and_is_not_back_before() -> None:
    site = Played()
    site.submit()
    site.started("node-1", STEP)
    lose(site, "node-1")
    site.hello("node-1")
    site.beat("node-1", STEP)
    assert site.stops() == [STEP]
    site.later(0.1)
    assert site.node().state is NodeState.LOST
    site.beat("node-1", gone=[(STEP, STOPPED)])
    site.later(0.1)
    assert site.node().state is NodeState.UP


def test_a_new_head_does_not_take_a_lost_node_for_found() -> None:
    site = Played()
    lose(site, "node-1")
    site.restart()
    site.later(1)
    assert site.node().state is NodeState.LOST


def test_a_new_head_does_not_take_a_suspect_node_for_found() -> None:
    site = Played()
    site.beats(4, node_2=())
    site.restart()
    site.later(1)
    assert site.node().state is NodeState.SUSPECT


def test_the_heads_own_pause_costs_no_node() -> None:
    site = Played()
    site.now_ns += 60 * S_NS
    site.do(Tick())
    assert site.node().state is NodeState.UP


def test_a_broken_connection_is_a_reason_for_suspicion_at_once() -> None:
    site = Played()
    site.do(NodeDown(NodeId("node-1"), "the connection was reset"))
    site.later(0.1)
    assert site.node().state is NodeState.SUSPECT
    site.hello("node-1")
    site.later(0.1)
    assert site.node().state is NodeState.UP


def test_no_more_nodes_are_given_up_than_the_rate_allows() -> None:
    site = Played(nodes=5)
    for _ in range(20):
        site.now_ns += S_NS
        site.do(Tick())
    assert sum(node.state is NodeState.LOST for node in site.core.site.nodes.by_id.values()) == 2
    for _ in range(60):
        site.later(1)
    assert sum(node.state is NodeState.LOST for node in site.core.site.nodes.by_id.values()) == 4


def test_an_old_beat_says_nothing() -> None:
    site = Played()
    site.submit()
    site.beats(2, node_1=[STEP])
    site.numbers[NodeId("node-1")] = 0
    site.beat("node-1")
    assert site.core._mouth.missed == {}


def test_a_beat_of_an_earlier_life_of_the_agent_says_nothing() -> None:
    site = Played()
    site.submit()
    site.hello("node-1", boot="b2")
    site.beat("node-1", STEP, boot="b1")
    assert site.task().state is TaskState.PLACED


# Orders that were lost, steps that were lost.


def test_an_order_that_nobody_answered_is_sent_again_but_not_at_once() -> None:
    site = Played()
    site.submit()
    site.beat("node-1")
    assert site.starts() == []
    site.now_ns += 3 * S_NS
    site.beat("node-1")
    assert site.starts() == [STEP]


def test_a_new_head_orders_what_the_old_one_may_not_have() -> None:
    site = Played()
    site.submit()
    site.restart()
    site.hello("node-1")
    site.beat("node-1")
    assert site.starts() == [STEP]


def test_a_step_that_a_node_no_longer_names_is_asked_for_and_lost_only_by_the_nodes_word() -> None:
    site = Played()
    site.submit()
    site.started("node-1", STEP)
    site.beats(1, node_1=())
    assert site.task().state is TaskState.RUNNING
    site.beats(1, node_1=())
    assert site.stops() == [STEP]
    assert (site.task().state, site.task().cause) == (TaskState.STOPPING, Cause.STEP_LOST)
    site.exited("node-1", STEP, LOST)
    assert (site.task().attempt, site.task().losses) == (2, 1)


def test_a_beat_made_before_the_start_and_heard_after_it_loses_nothing() -> None:
    site = Played()
    site.submit()
    site.started("node-1", STEP)
    site.beats(1, node_1=())
    site.beats(1, node_1=[STEP])
    site.beats(1, node_1=())
    assert site.task().state is TaskState.RUNNING


def test_a_step_that_was_asked_for_in_vain_and_then_stopped_is_no_failure() -> None:
    site = Played()
    site.submit()
    site.started("node-1", STEP)
    site.beats(2, node_1=())
    site.exited("node-1", STEP, STOPPED)
    assert (site.job().state, site.task().attempt) == (JobState.RUNNING, 2)


def test_a_job_that_is_lost_ten_times_is_suspected_itself() -> None:
    site = Played()
    site.submit()
    for attempt in range(1, 11):
        site.exited(site.task().nodes[0], f"job-1-a{attempt}-r0", LOST)
    assert site.job().state is JobState.FAILED
    assert "lost 10 attempts" in site.job().message


def test_the_head_ends_what_its_node_lets_run_beyond_its_limit() -> None:
    site = Played()
    site.submit(request(time_ms=5_000))
    site.beats(64, node_1=[STEP], node_2=())
    assert site.task().state is TaskState.RUNNING
    site.beats(3, node_1=[STEP], node_2=())
    assert site.task().cause is Cause.TIME
    site.exited("node-1", STEP, STOPPED)
    assert (site.job().state, site.job().message) == (JobState.FAILED, "passed its time limit")


def test_a_clock_that_was_set_forward_while_no_head_ran_ends_no_job() -> None:
    site = Played()
    site.submit(request(time_ms=5_000))
    site.started("node-1", STEP)
    site.now_ns += 3600 * S_NS
    site.restart()
    site.hello("node-1")
    site.beats(2, node_1=[STEP])
    assert site.task().state is TaskState.RUNNING


def test_names_that_nobody_knows_do_not_fill_the_heads_memory() -> None:
    site = Played()
    for _ in range(3):
        site.now_ns += 4 * S_NS
        site.beat("node-1", *[f"job-9-a{site.now_ns + i}-r0" for i in range(ORDERS_REMEMBERED_MAX)])
    assert len(site.core._mouth._sent_ns) <= 2 * ORDERS_REMEMBERED_MAX


# Gangs.


def test_a_gang_starts_everywhere_or_nowhere() -> None:
    site = Played()
    site.submit(request(4, nodes=2))
    assert sorted(site.starts()) == ["job-1-a1-r0", "job-1-a1-r1"]
    site.submit(request(1, nodes=2))
    assert site.starts() == []


def test_a_gang_that_loses_a_node_is_stopped_elsewhere_and_tried_again() -> None:
    site = Played(nodes=3)
    site.submit(request(4, nodes=2))
    site.beats(20, node_2=["job-1-a1-r1"], node_3=())
    assert site.node("node-1").state is NodeState.LOST
    assert "TaskStopping" in site.kinds()
    assert site.task().cause is Cause.NODE_LOST
    site.exited("node-2", "job-1-a1-r1", STOPPED)
    requeued = next(event for event in reversed(site.events) if type(event).__name__ == "TaskRequeued")
    assert requeued.cause is Cause.NODE_LOST
    assert (site.task().attempt, site.task().nodes) == (2, ("node-2", "node-3"))


def test_a_gang_fails_by_the_rank_that_failed_first() -> None:
    site = Played()
    site.submit(request(nodes=2))
    site.exited("node-1", "job-1-a1-r0", BAD)
    assert site.stops() == ["job-1-a1-r1"]
    site.exited("node-2", "job-1-a1-r1", STOPPED)
    assert (site.job().state, site.job().exit_code) == (JobState.FAILED, 3)


# Drains.


def test_a_drained_node_gets_no_more_and_is_drained_when_empty() -> None:
    site = Played()
    site.submit()
    site.do(Drain("node-1", "root"))
    site.submit()
    assert site.task("job-2").nodes == ("node-2",)
    site.exited("node-1", STEP)
    site.later(0.1)
    assert site.node().state is NodeState.DRAINED
    site.do(Return("node-1", "root"))
    assert site.node().state is NodeState.UP


def test_a_drain_now_moves_the_work_and_costs_it_nothing() -> None:
    site = Played()
    site.submit()
    site.started("node-1", STEP)
    site.do(Drain("node-1", "root", now=True))
    assert site.stops() == [STEP]
    site.exited("node-1", STEP, STOPPED)
    task = site.task()
    assert (task.attempt, task.nodes, task.losses, task.failures) == (2, ("node-2",), 0, 0)


def test_a_drain_now_of_a_step_that_never_came_costs_it_nothing() -> None:
    site = Played()
    site.submit()
    site.do(Drain("node-1", "root", now=True))
    site.exited("node-1", STEP, LOST)
    assert (site.task().attempt, site.task().losses) == (2, 0)


def test_a_node_that_was_taken_out_is_not_back_because_it_still_beats() -> None:
    site = Played()
    site.do(Drain("node-1", "root"))
    site.later(0.1)
    site.do(Remove("node-1", "root"))
    site.beats(3, node_1=(), node_2=())
    assert site.node().state is NodeState.LEFT
    site.hello("node-1", boot="b2")
    site.numbers.clear()
    site.beat("node-1", boot="b2")
    site.later(0.1)
    assert site.node().state is NodeState.UP


def test_a_node_with_work_cannot_be_taken_out() -> None:
    with pytest.raises(Refused):
        Played().do(Remove("node-1", "root"))


# The site goes down and comes up.


def test_a_site_that_goes_down_queues_what_runs_again() -> None:
    site = Played()
    site.submit()
    site.do(StopAll("root"))
    with pytest.raises(Unavailable):
        site.submit()
    site.exited("node-1", STEP, STOPPED)
    assert (site.job().state, site.task().cause) == (JobState.QUEUED, Cause.SITE_DOWN)
    site.restart()
    site.hello("node-1")
    site.later(1)
    assert site.task().attempt == 2


def test_a_new_head_knows_what_the_old_one_knew() -> None:
    site = Played()
    site.submit(request(array=array(6, throttle=3)), request(nodes=2))
    site.exited("node-1", "job-1.0-a1-r0", BAD)
    living = site.core.codec.encode_state(site.core.site)
    site.restart()
    assert site.core.codec.encode_state(site.core.site) == living


def test_a_snapshot_and_its_tail_are_the_whole() -> None:
    site = Played(settings=HeadSettings(snapshot_events=5))
    site.submit()
    assert site.core.snapshot_due()
    snapshot = site.core.take_snapshot()
    site.exited("node-1", STEP)
    site.log.save_snapshot(snapshot.seq, snapshot.version, snapshot.data)
    living = site.core.codec.encode_state(site.core.site)
    site.restart()
    assert site.core.codec.encode_state(site.core.site) == living


def test_a_snapshot_of_another_version_is_passed_over() -> None:
    site = Played()
    site.submit()
    site.log.save_snapshot(site.log.last_seq, SNAPSHOT_VERSION + 1, b"from another time")
    living = site.core.codec.encode_state(site.core.site)
    site.restart()
    assert site.core.codec.encode_state(site.core.site) == living


# The archive.


def test_an_ended_job_leaves_memory_for_the_archive() -> None:
    site = Played(settings=HeadSettings((Retention(60 * S_NS),)))
    site.submit()
    site.exited("node-1", STEP)
    site.later(59)
    assert "job-1" in site.core.site.jobs.by_id
    site.later(2)
    assert "job-1" not in site.core.site.jobs.by_id
    kept = site.log.archived("job-1")
    assert kept is not None
    assert decode_job(kept).state is JobState.DONE


def test_a_job_whose_outputs_somebody_waits_for_stays() -> None:
    site = Played(nodes=1, settings=HeadSettings((Retention(60 * S_NS),)))
    site.submit()
    site.exited("node-1", STEP)
    site.submit(request(4))  # fills the node, so that the next one waits
    site.submit(request(4, after=(JobId("job-1"),), inputs=(JobId("job-1"),)))
    site.now_ns += 120 * S_NS
    site.beat("node-1", "job-2-a1-r0")
    assert "job-1" in site.core.site.jobs.by_id
    site.exited("node-1", "job-2-a1-r0")
    site.exited("node-1", "job-3-a1-r0")
    site.later(1)
    assert "job-1" not in site.core.site.jobs.by_id


def test_an_empty_log_is_a_site_without_anything() -> None:
    core = Core(MemoryLog(), NOW_NS)
    assert core.turn([asked(core, Tick())], NOW_NS).events == []
    assert core.site.jobs.by_id == {}
