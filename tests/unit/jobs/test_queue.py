"""The queue keeps its lines and its table current, whatever happens in between."""

from __future__ import annotations

from msgspec.structs import replace

from mycelium.base.ids import account_id, node_id
from mycelium.jobs.index import Index
from mycelium.jobs.model import Sandbox
from mycelium.jobs.queue import Queue, QueueLine, shape_of
from mycelium.nodes.model import NodeState
from tests.sites import Play, devices, request


def line() -> QueueLine:
    return QueueLine(1, account_id(1), shape_of(request()), 1000)


def test_a_line_is_in_the_order_of_age_however_it_was_filled():
    kept = line()
    for number in (5, 9, 7, 3, 11, 4):
        kept.add(number)
    assert kept.waiting() == [3, 4, 5, 7, 9, 11]


def test_a_job_that_comes_back_stands_before_younger_ones():
    kept = line()
    for number in range(1, 11):
        kept.add(number)
    for number in (1, 2, 3):
        kept.remove(number)
    kept.add(2)
    assert kept.waiting() == [2, 4, 5, 6, 7, 8, 9, 10]
    kept.remove(7)
    assert kept.waiting() == [2, 4, 5, 6, 8, 9, 10]
    assert len(kept) == 7


def test_an_emptied_line_starts_anew():
    kept = line()
    kept.add(1)
    kept.remove(1)
    assert not kept
    kept.add(1)
    assert kept.waiting() == [1]


def test_jobs_that_differ_only_in_age_stand_in_one_line():
    play = Play()
    for _ in range(50):
        play.submit(request())
    play.submit(request(2))
    assert (len(play.queue), play.queue.lines) == (51, 2)


def test_a_sandbox_is_a_need_like_any_label():
    assert shape_of(request(on=("gpu",))).terms == ("gpu", "sandbox=process")
    assert shape_of(request(on=("gpu",), sandbox=Sandbox.NONE)).terms == ("gpu",)


def test_a_placed_cancelled_held_or_throttled_job_does_not_wait():
    play = Play()
    play.node(8)
    placed = play.submit(request())
    play.step()
    play.submit(request(after=(placed.id,)))
    array = play.submit(request(array=3, throttle=1))
    play.step()
    assert play.job(array).leased == 1
    cancelled = play.submit(request())
    play.cancel(cancelled)
    assert len(play.queue) == 0
    assert play.queue.lines == 0
    play.finish(array, 0)
    assert set(play.queue.places) == {array.id}


def test_nodes_have_columns_in_the_order_of_their_numbers():
    queue = Queue()
    play = Play()
    first, second, third = play.node(1), play.node(2), play.node(3)
    for node in (third, first, second):
        queue.node_changed(node)
    assert queue.table.ids == [first.id, second.id, third.id]
    assert queue.table.total[0].tolist() == [1000, 2000, 3000]


def test_leases_follow_their_nodes_when_an_older_node_comes_in_late():
    play = Play()
    nodes = [play.node(1, state=NodeState.UP), play.node(4)]
    job = play.submit(request(4))
    play.step()
    late = Queue()
    late.node_changed(nodes[1])
    late.refresh(play.job(job))
    late.take(nodes[1].id, devices(4))
    late.node_changed(nodes[0])
    assert late == play.queue
    assert late.held.leases().slots.tolist() == [1]


def test_devices_taken_on_an_unknown_node_count_once_it_is_known():
    play = Play()
    node = play.node(4)
    queue = Queue()
    queue.take(node.id, devices(1))
    assert not queue.table.open.any()
    queue.node_changed(node)
    assert (queue.table.total - queue.table.used)[0].tolist() == [3000]


def test_a_changed_label_changes_who_may_go_there():
    play = Play()
    node = play.node(4)
    assert not play.queue.table.accepts(("gpu",)).any()
    play.set_node(replace(node, labels={**node.labels, "gpu": "yes"}))
    assert play.queue.table.accepts(("gpu",)).all()


def test_a_node_that_shrinks_below_what_it_runs_gets_nothing_more():
    play = Play()
    node = play.node(4)
    play.submit(request(3))
    play.step()
    play.set_node(replace(node, devices=devices(2, 16)))
    play.submit(request(0.5))
    assert play.plan() == []


def test_leases_of_single_tasks_are_at_hand_and_go_with_them():
    play = Play()
    play.node(200, 400)
    jobs = [play.submit(request()) for _ in range(150)]
    play.step()
    assert len(play.queue.held.leases()) == 150
    for job in jobs[::2]:
        play.finish(job)
    assert set(play.queue.held.facts()) == {job.id for job in jobs[1::2]}
    assert play.queue == Index.of(play.site).queue


def test_two_queues_that_differ_are_not_equal():
    play = Play()
    play.node(4)
    play.submit(request())
    before = Index.of(play.site).queue
    play.step()
    assert play.queue != before
    assert node_id(1) in play.queue.table.slots
