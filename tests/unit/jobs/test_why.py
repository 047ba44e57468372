"""The site explains a job: what binds it, where it stands, when it starts, and what would start it sooner."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from mycelium.jobs.answer import Binding, Why
from mycelium.jobs.forecast import Sure
from mycelium.jobs.model import Job, Priority
from mycelium.jobs.why import dry_run, reason, say, why
from mycelium.nodes.model import NodeState
from tests.sites import HOUR_MS, Play, request

MINUTE_MS = 60_000


def asked(play: Play, job: Job, index: int | None = None) -> Why:
    found = why(play.site, play.queue, job.id, index, play.now_ns)
    assert msgspec.json.decode(msgspec.json.encode(found))["state"] == found.state
    return found


def said(play: Play, job: Job, index: int | None = None) -> str:
    return "\n".join(say(asked(play, job, index)))


def short(play: Play, job: Job) -> str:
    return reason(play.site, play.queue, play.job(job), play.now_ns)


def busy(cpus: float = 4, used: float = 3, minutes: int = 10) -> Play:
    """One node, partly taken."""
    play = Play()
    play.node(cpus)
    play.submit(request(used, time_ms=minutes * MINUTE_MS))
    play.step()
    return play


def test_a_shortage_is_named_with_the_most_that_is_free_and_where():
    play = busy()
    job = play.submit(request(4))
    assert short(play, job) == "it asks for 4 cpus; the most that a node has free is 1 of 4 (node-1)"
    assert said(play, job).splitlines() == [
        "It asks for 4 cpus; the most that a node has free is 1 of 4 (node-1); "
        "node-1 is held by job-1 (account-1, for at most 10m).",
        "Nobody is ahead.",
        "It is expected to start in about 10m on node-1. This rests on job-1 running to its time limit, "
        "nobody else submitting and the nodes staying as they are.",
        "It would start now on node-1 with --cpus 1 (1 instead of 4 cpus).",
    ]


def test_devices_that_are_free_on_different_nodes_are_not_called_short():
    play = Play()
    first, second = play.node(4, 8), play.node(4, 8)
    for node, asks in ((first, request(3, 1)), (second, request(1, 7))):
        play.set_node(replace(node, labels={**node.labels, "only": "1"}))
        play.submit(replace(asks, on=("only",)))
        play.step()
        play.set_node(node)
    assert "free together" in short(play, play.submit(request(2, 4)))


def test_what_is_too_large_for_every_node_is_said_with_the_largest():
    play = busy()
    job = play.submit(request(9))
    found = asked(play, job)
    assert found.binds[0].kind is Binding.NEVER
    assert found.expected is not None
    assert found.expected.sure is Sure.NEVER
    assert "the largest node has 4 (node-1)" in said(play, job)
    assert "It cannot start as the site is now." in said(play, job)
    assert found.change is not None
    assert found.change.option == "--cpus 4"


def test_a_label_that_no_node_has_is_named():
    play = busy(used=1)
    job = play.submit(request(on=("gpu", "sandbox")))
    assert short(play, job) == "no node meets gpu"
    assert short(play, play.submit(request(on=("sandbox", "!sandbox")))) == "no node meets !sandbox"


def test_labels_that_no_single_node_has_together_are_named():
    play = Play()
    play.node(a="1")
    play.node(b="1")
    job = play.submit(request(on=("a", "b")))
    assert short(play, job) == "no single node meets a, b and can sandbox a job"
    change = asked(play, job).change
    assert change is not None
    assert change.option == "--on 'b'"


def test_only_a_closed_node_that_would_do_is_named_with_its_state():
    play = Play()
    node = play.node(4, state=NodeState.DRAINING)
    job = play.submit(request(2))
    assert short(play, job) == f"the only node that could serve it takes no new work now: {node.id} is draining"
    assert asked(play, job).binds[0].kind is Binding.CLOSED


def test_no_sandbox_anywhere_is_said_in_words():
    play = Play()
    play.node(sandbox="none")
    assert short(play, play.submit(request())) == "no node can sandbox a job"


def test_a_site_without_nodes_says_so():
    play = Play()
    assert short(play, play.submit(request())) == "the site has no node"


def test_a_gang_says_how_many_nodes_have_room():
    play = busy()
    play.node(4)
    job = play.submit(request(4, nodes=2))
    assert "it asks for 2 nodes at once" in short(play, job)
    assert "1 of the 2 that could serve it have that now" in short(play, job)
    change = asked(play, job).change
    assert change is not None
    assert change.option == "--nodes 1"


def test_a_throttle_says_its_bound_and_what_raising_it_gives():
    play = Play()
    play.node(8)
    array = play.submit(request(array=9, throttle=2))
    play.step()
    assert short(play, array) == "its throttle lets 2 of its tasks run at once, and 2 do"
    change = asked(play, array).change
    assert change is not None
    assert (change.option, change.expected.sure) == ("a throttle of %3", Sure.NOW)


def test_a_held_job_names_what_it_waits_for_and_its_state():
    play = busy()
    held = play.submit(request(after=(play.job("job-1").id,)))
    assert short(play, held) == "it comes after job-1 (running)"
    assert "in about 10m" in said(play, held)


def test_nodes_kept_for_another_are_explained_and_a_shorter_time_found():
    play = busy(4, 3, minutes=30)
    large = play.submit(request(4))
    job = play.submit(request(1, time_ms=HOUR_MS))
    found = asked(play, job)
    assert found.binds[0].kind is Binding.KEPT
    assert found.binds[0].jobs == (large.id,)
    assert found.change is not None
    assert (found.change.option, found.change.expected.sure) == ("--time 30m", Sure.NOW)


def test_room_that_goes_to_those_ahead_is_said_so():
    play = Play()
    play.node(1)
    first = play.submit(request())
    job = play.submit(request())
    found = asked(play, job)
    assert found.binds[0].kind is Binding.TURN
    assert found.binds[0].jobs == (first.id,)


def test_standing_counts_by_class_share_and_age_and_names_the_first():
    play = busy(4, 4)
    mine, other = play.job("job-1").account, play.account(spent=0)
    play.submit(request(priority=Priority.HIGH), mine)
    play.submit(request(), other)
    play.submit(request(), mine)
    job = play.submit(request(), mine)
    play.submit(request(priority=Priority.LOW), other)
    standing = asked(play, job).standing
    assert standing is not None
    assert (standing.position, standing.waiting) == (4, 5)
    assert (standing.by_priority, standing.by_share, standing.by_age) == (1, 1, 1)
    assert [(ahead.job, ahead.by) for ahead in standing.ahead] == [
        ("job-2", "priority"),
        ("job-3", "fair share"),
        ("job-4", "age"),
    ]


def test_a_higher_priority_is_offered_only_where_it_may_be_had():
    play = busy(4, 4)
    play.submit(request(1, time_ms=9 * HOUR_MS, array=4))
    job = play.submit(request(0.1, time_ms=1))  # nothing of it can be made smaller
    change = asked(play, job).change
    assert change is not None
    assert change.option == "--priority high"
    low = why(play.site, play.queue, job.id, None, play.now_ns, highest=Priority.NORMAL)
    assert low.change is None


@pytest.mark.parametrize(("index", "words"), [(None, "job-1 is being started on node-1"), (0, "is being started")])
def test_a_running_job_is_said_to_run(index: int | None, words: str):
    play = busy()
    assert words in said(play, play.job("job-1"), index)
    assert short(play, play.job("job-1")) == ""
    play.start(play.job("job-1"))
    assert "runs on node-1" in said(play, play.job("job-1"), index)


def test_an_ended_job_is_said_to_have_ended():
    play = busy()
    play.finish("job-1")
    assert said(play, play.job("job-1")) == "job-1 has ended: it is done with exit code 0."


def test_one_task_of_an_array_is_explained_by_itself():
    play = Play()
    play.node(2)
    array = play.submit(request(array=4, time_ms=10 * MINUTE_MS))
    play.step()
    assert "job-1.0 is being started" in said(play, array, 0)
    assert "in about 10m" in said(play, array, 3)


def test_a_dry_run_says_where_it_would_start_and_submits_nothing():
    play = busy()
    before = repr(play.site)
    account = play.account()
    before = repr((play.site, play.queue._facts()))
    found = dry_run(play.site, play.queue, request(), account, play.now_ns)
    assert say(found) == ["It would start now on node-1."]
    assert found.job is None
    assert repr((play.site, play.queue._facts())) == before


def test_a_dry_run_explains_like_a_submitted_job():
    play = busy()
    account = play.account()
    asks = request(4)
    tried = dry_run(play.site, play.queue, asks, account, play.now_ns)
    job = play.submit(asks, account)
    found = asked(play, job)
    assert say(tried) == say(found)
    assert (tried.expected, tried.change, tried.standing) == (found.expected, found.change, found.standing)


def test_a_dry_run_after_another_job_is_held():
    play = busy()
    found = dry_run(play.site, play.queue, request(after=(play.job("job-1").id,)), play.account(), play.now_ns)
    assert found.binds[0].kind is Binding.DEPENDENCY


def test_the_jobs_that_hold_the_room_are_named_the_first_to_end_first():
    play = Play()
    mine, other = play.account(name="ada"), play.account(name="ben")
    play.node(1)
    play.node(1)
    late = play.submit(request(1, time_ms=HOUR_MS), mine)
    soon = play.submit(request(1, time_ms=10 * MINUTE_MS), other)
    play.step()
    found = asked(play, play.submit(request(1), mine))
    assert found.binds[0].jobs == (soon.id, late.id)
    held = f"both nodes are held by {soon.id} (ben, for at most 10m) and {late.id} (ada, for at most 1h)"
    assert found.binds[0].text.endswith(held)
    assert found.expected is not None
    assert found.expected.rests_on[0] == f"{soon.id} running to its time limit"


def test_no_more_holders_are_named_than_a_person_reads():
    play = Play()
    play.node(5)
    for _ in range(5):
        play.submit(request(1))
    play.step()
    found = asked(play, play.submit(request(1)))
    assert len(found.binds[0].jobs) == 3
    assert "and 2 more jobs" in found.binds[0].text
    assert found.expected is not None
    assert found.expected.rests_on[0] == "5 tasks of job-1, job-2, job-3 and 2 more jobs running to their time limits"


def test_a_task_far_down_an_array_gets_no_advice_that_helps_only_the_next_one():
    play = Play()
    play.node(2, gib=2.5)
    array = play.submit(request(1, array=2000, time_ms=MINUTE_MS))
    play.step()
    for index in (0, 1):
        play.start(array, index)
        play.later(200)
        play.finish(array, index)
        play.step()
    found = asked(play, array, 1999)
    assert found.binds[0].kind is Binding.DEVICES
    assert found.standing is not None
    assert found.standing.siblings == 1995
    assert "1,995 tasks of the same array come before it." in say(found)
    assert "Nobody is ahead." not in say(found)
    assert found.expected is not None
    assert found.expected.in_ms is not None
    assert found.expected.in_ms > 60_000  # at two at a time, 300 ms each, it takes minutes
    assert found.change is None or found.change.expected.in_ms != 0


def test_a_task_beyond_what_is_looked_at_is_reckoned_from_the_pace_and_in_whole_sentences():
    play = Play()
    play.node(1)
    array = play.submit(request(1, array=50_000, time_ms=MINUTE_MS))
    play.step()
    found = asked(play, array, 49_999)
    assert found.expected is not None
    assert found.expected.by_pace
    assert found.expected.in_ms == pytest.approx(49_999 * MINUTE_MS, rel=0.1)
    assert "the look ahead" not in "\n".join(say(found))
    assert found.expected.rests_on[1] == "the tasks before it going on to start as fast as the first of them"


def test_a_task_that_has_ended_is_spoken_of_by_itself_when_its_job_has_ended_too():
    play = Play()
    play.node(4)
    array = play.submit(request(array=2))
    play.step()
    play.finish(array, 0)
    play.finish(array, 1)
    assert said(play, array, 1) == "job-1.1 has ended: it is done with exit code 0."
    assert said(play, array) == "job-1 has ended: it is done with exit code 0."


def test_what_comes_after_an_array_is_expected_when_its_average_says_that_it_ends():
    play = Play()
    play.node(1)
    array = play.submit(request(1, array=11, time_ms=HOUR_MS))
    play.step()
    play.start(array, 0)
    play.later(MINUTE_MS)
    play.finish(array, 0)
    play.step()
    play.start(array, 1)
    found = asked(play, play.submit(request(after=(array.id,))))
    assert found.expected is not None
    assert found.expected.in_ms == pytest.approx(10 * MINUTE_MS, rel=0.2)
    assert "the tasks of job-1 taking as long as others of it did on average (1m)" in found.expected.rests_on
