"""Who runs next, in small scenes."""

from __future__ import annotations

from msgspec.structs import replace

from mycelium.base.ids import AccountId
from mycelium.jobs.model import Priority
from mycelium.jobs.plan import plan
from mycelium.nodes.model import NodeState
from tests.sites import HOUR_MS, Play, request

MINUTE_MS = 60_000


def started(play: Play) -> list[str]:
    return [place.job for place in play.step()]


def test_a_higher_class_goes_first_whoever_had_less():
    play = Play()
    play.node(1)
    rich, poor = play.account(spent=1e9), play.account()
    play.submit(request(), poor)
    urgent = play.submit(request(priority=Priority.HIGH), rich)
    play.submit(request(priority=Priority.LOW), poor)
    assert started(play) == [urgent.id]


def test_the_account_that_had_less_goes_first():
    play = Play()
    play.node(1)
    rich, poor = play.account(spent=1e5), play.account()
    play.submit(request(), rich)
    later = play.submit(request(), poor)
    assert started(play) == [later.id]


def test_what_an_account_holds_counts_against_it():
    play = Play()
    play.node(4)
    busy, idle = play.account(), play.account()
    for _ in range(3):
        play.submit(request(), busy)
    play.step()
    play.submit(request(), busy)
    later = play.submit(request(), idle)
    assert started(play) == [later.id]


def owners(play: Play) -> list[AccountId]:
    return [play.job(place.job).account for place in play.step()]


def test_accounts_with_an_equal_past_take_turns_within_one_pass():
    play = Play()
    play.node(6)
    first, second = play.account(), play.account()
    for account in (first, second):
        for _ in range(6):
            play.submit(request(), account)
    assert owners(play) == [first, second] * 3


def test_an_account_of_twice_the_weight_gets_twice_as_much():
    play = Play()
    play.node(9)
    light, heavy = play.account(weight=1), play.account(weight=2)
    play.submit(request(array=20), light)
    play.submit(request(array=20), heavy)
    got = owners(play)
    assert (got.count(light), got.count(heavy)) == (3, 6)


def test_the_oldest_job_of_an_account_goes_first():
    play = Play()
    play.node(1)
    first = play.submit(request(time_ms=5))
    play.submit(request(time_ms=6))
    assert started(play) == [first.id]


def test_the_fullest_node_that_fits_is_chosen():
    play = Play()
    play.node(8)
    small = play.node(2)
    play.node(4)
    play.submit(request(2))
    assert play.plan()[0].nodes == (small.id,)


def test_work_without_gpus_keeps_off_nodes_with_gpus_while_others_fit():
    play = Play()
    gpu = play.node(2, gpus=1)
    plain = play.node(16)
    for _ in range(17):
        play.submit(request())
    nodes = [place.nodes[0] for place in play.step()]
    assert nodes == [plain.id] * 16 + [gpu.id]


def test_a_gang_starts_on_distinct_nodes_or_not_at_all():
    play = Play()
    nodes = [play.node(2), play.node(2)]
    play.submit(request(1, nodes=3))
    assert play.plan() == []
    nodes.append(play.node(2))
    assert play.plan()[0].nodes == tuple(node.id for node in nodes)


def test_a_gang_takes_the_fullest_nodes_that_fit():
    play = Play()
    nodes = [play.node(cpus) for cpus in (8, 2, 6, 1, 4)]
    play.submit(request(2, nodes=2))
    assert play.plan()[0].nodes == (nodes[1].id, nodes[4].id)


def test_memory_binds_as_cpus_do():
    play = Play()
    play.node(8, gib=4)
    for _ in range(3):
        play.submit(request(1, gib=2))
    assert len(play.plan()) == 2


def test_a_throttled_array_never_runs_more_at_once():
    play = Play()
    play.node(8)
    array = play.submit(request(array=6, throttle=2))
    assert [place.index for place in play.step()] == [0, 1]
    assert play.step() == []
    play.finish(array, 0)
    assert [place.index for place in play.step()] == [2]


def test_only_open_nodes_with_the_labels_get_work():
    play = Play()
    play.node(8, state=NodeState.DRAINING, arch="aarch64")
    play.node(8, state=NodeState.SUSPECT, arch="aarch64")
    play.node(8)
    arm = play.node(8, arch="aarch64")
    play.submit(request(on=("arch=aarch64",)))
    assert play.plan()[0].nodes == (arm.id,)
    play.set_node(replace(arm, labels={"arch": "aarch64"}))
    assert play.plan() == []  # nothing there keeps the step to itself


def full_site() -> Play:
    """Two nodes of two cpus: on the first both are taken for an hour, on the second one for ten minutes."""
    play = Play()
    first, second = play.node(2), play.node(2)
    play.submit(request(2, time_ms=HOUR_MS))
    play.step()
    play.submit(request(1, time_ms=10 * MINUTE_MS))
    play.step()
    assert [task.nodes[0] for _, task in play.running()] == [first.id, second.id]
    return play


def test_a_short_job_starts_before_the_large_one_that_waits():
    play = full_site()
    play.submit(request(2))
    short = play.submit(request(1, time_ms=10 * MINUTE_MS))
    assert started(play) == [short.id]


def test_a_long_job_does_not_delay_the_large_one_that_waits():
    play = full_site()
    large = play.submit(request(2))
    play.submit(request(1, time_ms=11 * MINUTE_MS))
    assert started(play) == []
    play.finish("job-2")
    assert started(play) == [large.id]


def test_a_long_job_starts_where_it_takes_nothing_that_is_kept():
    play = full_site()
    third = play.node(1)
    play.submit(request(2))
    long = play.submit(request(1))
    places = play.step()
    assert [(place.job, place.nodes) for place in places] == [(long.id, (third.id,))]


def test_a_job_leaves_what_a_kept_node_has_to_spare():
    play = Play()
    play.node(4)
    play.submit(request(3, time_ms=10 * MINUTE_MS))
    play.step()
    play.submit(request(3))
    beside = play.submit(request(1))
    play.submit(request(1))
    assert started(play) == [beside.id]


def test_small_long_jobs_do_not_add_up_to_a_delay():
    """What is left over beside the large job is given once, not to each."""
    play = Play()
    play.node(6)
    play.submit(request(3, time_ms=10 * MINUTE_MS))
    play.step()
    play.submit(request(4, time_ms=10 * MINUTE_MS))
    small = [play.submit(request(1)) for _ in range(3)]
    assert started(play) == [job.id for job in small[:2]]


def test_two_jobs_that_wait_are_not_promised_the_same_devices():
    """Each node has one of two cpus free, the first in an hour the other, the second in ten minutes."""
    play = Play()
    first, second = play.node(2), play.node(2)
    play.submit(request(1, 3, time_ms=HOUR_MS, on=("!b",)))
    play.submit(request(1, 3, time_ms=10 * MINUTE_MS, on=("!a",)))
    play.set_node(replace(first, labels={**first.labels, "a": "1"}))
    play.set_node(replace(second, labels={**second.labels, "b": "1"}))
    play.step()
    assert [task.nodes[0] for _, task in play.running()] == [first.id, second.id]
    play.submit(request(2))  # is promised the second node in ten minutes, and has it for an hour
    play.submit(request(2, 2))  # so this one is promised the first
    play.submit(request(1, time_ms=2 * HOUR_MS))
    assert started(play) == []


def test_what_can_never_run_holds_up_nobody():
    play = Play()
    play.node(2)
    play.submit(request(64, priority=Priority.HIGH))
    play.submit(request(1, on=("moon",), priority=Priority.HIGH))
    small = play.submit(request(1, time_ms=9 * HOUR_MS))
    assert started(play) == [small.id]


def test_a_task_that_outlived_its_limit_is_expected_to_end_soon():
    play = full_site()
    play.later(2 * HOUR_MS)
    play.submit(request(2, nodes=2))
    play.submit(request(1, time_ms=MINUTE_MS))  # longer than the grace of those that should have ended
    assert started(play) == []


def test_a_cancelled_job_is_expected_to_end_soon():
    play = full_site()
    play.cancel(play.job("job-2"))
    play.submit(request(2))
    play.submit(request(1, time_ms=MINUTE_MS))
    assert started(play) == []


def test_a_pass_places_no_more_than_it_may():
    play = Play()
    play.node(8)
    play.submit(request(array=100))
    assert len(plan(play.site, play.queue, play.now_ns, most=3)) == 3


def test_a_requeued_task_goes_before_those_that_never_ran():
    play = Play()
    node = play.node(1)
    array = play.submit(request(array=3))
    play.step()
    play.requeue(array, 0)
    assert [(place.index, place.nodes) for place in play.step()] == [(0, (node.id,))]
