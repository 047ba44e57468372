"""When a job starts, if things go as they are expected to."""

from __future__ import annotations

from mycelium.base.units import S_NS
from mycelium.jobs.answer import Why, say
from mycelium.jobs.forecast import Budget, Expected, Outlook, Sure, after, forecast
from mycelium.jobs.model import Job, Task, TaskState
from mycelium.jobs.running import likely, mean_ms
from tests.sites import HOUR_MS, NOW_NS, Play, request

MINUTE_MS = 60_000


def expected(play: Play, job: Job, **options) -> Expected:
    return forecast(Outlook(play.site, play.queue, play.now_ns), play.job(job), **options)


def test_what_fits_starts_now_and_says_where():
    play = Play()
    node = play.node(2)
    found = expected(play, play.submit(request(2)))
    assert (found.sure, found.in_ms, found.nodes) == (Sure.NOW, 0, (node.id,))


def test_a_job_starts_when_the_task_in_its_way_reaches_its_limit():
    play = Play()
    node = play.node(2)
    play.submit(request(2, time_ms=10 * MINUTE_MS))
    play.step()
    play.later(MINUTE_MS)
    found = expected(play, play.submit(request(1)))
    assert (found.sure, found.in_ms, found.nodes) == (Sure.ABOUT, 9 * MINUTE_MS, (node.id,))
    assert found.rests_on[0] == "job-1 running to its time limit"


def test_those_ahead_are_served_first():
    play = Play()
    play.node(1)
    for minutes in (1, 2, 4):
        play.submit(request(time_ms=minutes * MINUTE_MS))
    play.step()
    assert expected(play, play.submit(request())).in_ms == 7 * MINUTE_MS


def test_tasks_of_an_array_are_expected_to_run_as_long_as_the_finished_ones():
    play = Play()
    play.node(1)
    array = play.submit(request(array=3, time_ms=HOUR_MS))
    play.step()
    play.start(array, 0)
    play.later(2 * MINUTE_MS)
    play.finish(array, 0)
    play.step()
    play.start(array, 1)
    assert mean_ms(play.job(array)) == 2 * MINUTE_MS
    job = play.submit(request())
    found = expected(play, job)
    assert (found.in_ms, found.by_averages) == (4 * MINUTE_MS, True)
    assert "2 tasks taking as long as others of the same array did on average (2m)" in found.rests_on
    assert expected(play, job, use_means=False).in_ms == 2 * HOUR_MS


def test_a_task_that_outlived_the_mean_is_taken_to_run_to_its_limit():
    play = Play()
    play.node(1)
    array = play.submit(request(array=2, time_ms=HOUR_MS))
    play.step()
    play.start(array, 0)
    play.later(MINUTE_MS)
    play.finish(array, 0)
    play.step()
    play.start(array, 1)
    play.later(30 * MINUTE_MS)
    assert expected(play, play.submit(request())).in_ms == 30 * MINUTE_MS


def test_a_throttled_array_goes_on_as_its_tasks_end():
    play = Play()
    play.node(8)
    array = play.submit(request(array=6, throttle=2, time_ms=5 * MINUTE_MS))
    play.step()
    assert expected(play, array).in_ms == 5 * MINUTE_MS
    assert expected(play, array, index=5).in_ms == 10 * MINUTE_MS


def test_what_no_open_node_could_take_never_starts():
    play = Play()
    play.node(2)
    assert expected(play, play.submit(request(3))).sure is Sure.NEVER


def test_a_look_ahead_that_is_cut_short_gives_a_bound_and_says_so():
    play = Play()
    play.node(1)
    for _ in range(50):
        play.submit(request(time_ms=MINUTE_MS))
    play.step()
    found = expected(play, play.submit(request()), budget=Budget(5))
    assert found.sure is Sure.NOT_BEFORE
    assert found.in_ms == 5 * MINUTE_MS
    assert any("look ahead ends there" in said for said in say(Why(None, None, "queued", play.now_ns, (), None, found)))


def test_a_forecast_changes_nothing():
    play = Play()
    play.node(1)
    play.submit(request())
    play.step()
    job = play.submit(request(array=9, throttle=1))
    before = repr((play.site, play.queue._facts()))
    expected(play, job)
    assert repr((play.site, play.queue._facts())) == before


def test_a_held_job_is_expected_after_the_jobs_it_comes_after():
    play = Play()
    play.node(1)
    first = play.submit(request(time_ms=10 * MINUTE_MS))
    play.step()
    second = play.submit(request(time_ms=20 * MINUTE_MS))
    held = play.submit(request(after=(first.id, second.id)))
    found = after(Outlook(play.site, play.queue, play.now_ns), held)
    assert (found.sure, found.in_ms) == (Sure.ABOUT, 30 * MINUTE_MS)
    far = play.submit(request(after=(held.id,)))
    assert after(Outlook(play.site, play.queue, play.now_ns), far).sure is Sure.UNKNOWN


def test_a_task_that_has_outlived_the_others_is_taken_to_be_half_way():
    task = Task(0, TaskState.RUNNING, attempt=1, started_ns=NOW_NS - 10 * S_NS)
    limit_ns = NOW_NS + 3600 * S_NS
    assert likely(task, limit_ns, 60_000, NOW_NS) == NOW_NS + 50 * S_NS
    assert likely(task, limit_ns, 1_000, NOW_NS) == NOW_NS + 10 * S_NS
    assert likely(task, NOW_NS + 5 * S_NS, 1_000, NOW_NS) == NOW_NS + 5 * S_NS
