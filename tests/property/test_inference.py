"""Laws of serving models: routing, fairness, limits, scaling, and lines that are done once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mycelium.base.ids import AccountId, JobId
from mycelium.base.units import S_NS
from mycelium.inference.buckets import Bucket
from mycelium.inference.commands import DeploymentQueue
from mycelium.inference.fair import FairQueue
from mycelium.inference.model import Deployment, Serving
from mycelium.inference.plan import PACE, Scale, scale
from mycelium.inference.router import RoutedReplica, Who, choose, make_room, prefixes
from mycelium.inference.spans import count, missing, overlap, spans_of, union

TEXTS = st.text("ab", max_size=2000)


@st.composite
def places(draw: st.DrawFn) -> list[RoutedReplica]:
    made: list[RoutedReplica] = []
    for number in range(draw(st.integers(0, 6))):
        place = RoutedReplica(JobId(f"job-{number}"), draw(st.sampled_from(("a", "b"))), draw(st.integers(1, 3)))
        place.ready, place.draining = draw(st.booleans()), draw(st.booleans())
        place.urgent = draw(st.integers(0, 1))
        for _ in range(draw(st.integers(0, 4))):
            place.begin(prefixes(draw(TEXTS)), draw(st.integers(0, 500)), batch=draw(st.booleans()))
        place.lines_max = draw(st.integers(0, place.parallel))
        made.append(place)
    return made


@given(places(), TEXTS, st.sampled_from(Who), st.sets(st.integers(0, 5)))
def test_a_request_never_goes_to_a_dead_a_foreign_a_draining_or_a_full_replica(
    found: list[RoutedReplica], text: str, who: Who, avoid: set[int]
) -> None:
    avoided = frozenset(JobId(f"job-{number}") for number in avoid)
    chosen = choose(found, "a", prefixes(text), who, avoided)
    able = [p for p in found if p.deployment == "a" and p.free(who) and p.job not in avoided]
    assert (chosen is None) == (not able)
    if chosen is not None:
        assert chosen in able
        assert chosen.ready and not chosen.draining
        assert chosen.active < chosen.parallel + (who is not Who.LINE)
        if who is Who.MORE:
            assert chosen.active - chosen.lines < chosen.parallel, "the last place is for another key"
        if who is Who.LINE:
            assert not chosen.urgent
            assert chosen.lines < chosen.lines_max


@given(places(), st.booleans())
def test_people_have_a_replica_of_several_to_themselves_and_batches_are_never_stopped(
    found: list[RoutedReplica], people: bool
) -> None:
    make_room(found, people)
    ready = [place for place in found if place.ready and not place.draining]
    assert sum(place.lines_max == 0 for place in ready) == (people and len(ready) > 1)
    assert all(place.lines_max <= place.parallel for place in found)
    if ready:
        assert any(place.lines_max > 0 for place in ready)


@given(TEXTS, TEXTS)
def test_equal_beginnings_have_equal_prefixes(text: str, rest: str) -> None:
    blocks = prefixes(text)
    assert prefixes(text + rest)[: len(blocks)] == blocks


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 100), st.booleans()), max_size=60), st.data())
def test_the_queue_gives_everything_once_and_batches_last(
    items: list[tuple[str, int, bool]], data: st.DataObject
) -> None:
    queue: FairQueue[int] = FairQueue()
    numbers = {index: queue.push(key, cost, index, batch=batch) for index, (key, cost, batch) in enumerate(items)}
    dropped = data.draw(st.sets(st.sampled_from(range(len(items))))) if items else set()
    for index in dropped:
        queue.drop(numbers[index], items[index][0], batch=items[index][2])
    people = [index for index, item in enumerate(items) if not item[2] and index not in dropped]
    assert len(queue) == len(people)
    given_out: list[int] = []
    while (item := queue.pop()) is not None:
        given_out.append(item)
    assert sorted(given_out) == sorted(set(range(len(items))) - dropped)
    assert sorted(given_out[: len(people)]) == people
    assert len(queue) == queue.batch_lines == 0


@given(st.integers(2, 50), st.integers(1, 20), st.integers(1, 50))
def test_a_flood_from_one_key_delays_another_by_one_request_at_most(flood: int, served: int, cost: int) -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(flood):
        queue.push("flood", cost, "flood")
    for _ in range(min(served, flood - 1)):
        queue.pop()
    queue.push("other", cost, "other")
    assert "other" in {queue.pop(), queue.pop()}


@given(st.integers(1, 1000), st.lists(st.tuples(st.floats(0, 20), st.integers(0, 400)), max_size=60))
def test_no_minute_gives_more_than_two_bucketfuls(per_minute: int, asked: list[tuple[float, int]]) -> None:
    """One that was saved up, and one that flowed in; that is what a bucket promises."""
    now_s, taken = 0.0, []
    bucket = Bucket(per_minute, now_s)
    for passed_s, amount in asked:
        now_s += passed_s
        if bucket.wait_s(amount, now_s) == 0:
            bucket.take(amount, now_s)
            taken.append((now_s, min(amount, per_minute)))
    for begin_s, _ in taken:
        within = sum(amount for at_s, amount in taken if begin_s <= at_s <= begin_s + 60)
        assert within <= 2 * per_minute + 1e-6


@given(st.integers(1, 1000), st.integers(0, 2000))
def test_after_the_wait_that_was_told_the_amount_can_be_had(per_minute: int, amount: int) -> None:
    bucket = Bucket(per_minute, 0.0)
    bucket.take(per_minute, 0.0)
    wait_s = bucket.wait_s(amount, 0.0)
    assert bucket.wait_s(amount, wait_s + 1e-6) == 0
    assert wait_s <= 60 + 1e-6


SPANS = st.lists(st.integers(0, 60), max_size=40)


@given(SPANS, SPANS)
def test_spans_are_sets(one: list[int], other: list[int]) -> None:
    first, second = spans_of(one), spans_of(other)
    assert union(first, second) == spans_of(one + other)
    assert count(first) == len(set(one))
    assert overlap(first, second) == bool(set(one) & set(other))
    assert list(missing(first, 61)) == sorted(set(range(61)) - set(one))


LOADS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20), st.integers(0, 40), st.integers(1, 90)), max_size=60)


@given(st.integers(0, 3), st.integers(1, 5), LOADS)
def test_the_autoscaler_stays_in_its_bounds_never_flaps_and_never_sleeps_on_work(
    least: int, more: int, loads: list[tuple[int, int, int, int]]
) -> None:
    serving = Serving("m", replicas_min=least, replicas_max=least + more, parallel=4)
    deployment = Deployment("m", AccountId("account-1"), "a", serving, least, 0)
    memory, now_ns, grown_ns = Scale(), S_NS, 0
    for waiting, active, lines, passed_s in loads:
        now_ns += passed_s * S_NS
        target, memory = scale(deployment, memory, DeploymentQueue("m", waiting, active, 0, lines), now_ns)
        assert least <= target <= least + more
        if waiting + active + lines:
            assert target >= 1
        if target > deployment.target:
            grown_ns = now_ns
        if target < deployment.target:
            assert now_ns - grown_ns >= PACE.down_ns or grown_ns == 0, "what was just started is not stopped"
        deployment = Deployment("m", AccountId("account-1"), "a", serving, target, 0)


@given(st.integers(1, 40))
def test_a_steady_load_leads_to_a_steady_number(active: int) -> None:
    serving = Serving("m", replicas_min=0, replicas_max=20, parallel=4)
    deployment = Deployment("m", AccountId("account-1"), "a", serving, 0, 0)
    memory, targets = Scale(), []
    for second in range(1, 400):
        target, memory = scale(deployment, memory, DeploymentQueue("m", 0, active), second * S_NS)
        targets.append(target)
        deployment = Deployment("m", AccountId("account-1"), "a", serving, target, 0)
    assert len(set(targets)) == 1
