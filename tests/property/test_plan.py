"""Laws of the plan, on sites of any kind."""

from __future__ import annotations

from collections import Counter

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mycelium.base.ids import number_of
from mycelium.base.units import MS_NS
from mycelium.head.domains import mounted
from mycelium.jobs.fit import Fit
from mycelium.jobs.forecast import Sure
from mycelium.jobs.index import Index
from mycelium.jobs.model import Job, Priority, Sandbox
from mycelium.jobs.plan import Pass, Place, plan
from mycelium.jobs.queue import shape_of
from mycelium.jobs.why import reason, say, why
from mycelium.jobs.world import World
from mycelium.nodes.model import Devices, NodeState
from mycelium.nodes.select import unmet
from tests.sites import HOUR_MS, Play, request

LAW = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

REQUESTS = st.builds(
    request,
    cpus=st.sampled_from([0.5, 1, 2, 4, 8]),
    gib=st.sampled_from([0.5, 1, 4, 16]),
    gpus=st.sampled_from([0, 0, 0, 1, 2]),
    nodes=st.sampled_from([1, 1, 1, 2, 3]),
    time_ms=st.sampled_from([60_000, 600_000, HOUR_MS]),
    array=st.sampled_from([0, 0, 3, 7]),
    throttle=st.sampled_from([0, 0, 2]),
    priority=st.sampled_from(list(Priority)),
    on=st.sampled_from([(), (), (), ("arch=arm",), ("!virtual",), ("arch!=arm", "virtual")]),
    sandbox=st.sampled_from([Sandbox.PROCESS, Sandbox.PROCESS, Sandbox.NONE]),
)


@st.composite
def plays(draw: st.DrawFn) -> Play:
    """A site in the middle of its life."""
    play = Play()
    for _ in range(draw(st.integers(1, 6))):
        play.node(
            draw(st.sampled_from([1, 2, 4, 8])),
            draw(st.sampled_from([1, 4, 16])),
            draw(st.sampled_from([0, 0, 1, 4])),
            draw(st.sampled_from([*[NodeState.UP] * 5, NodeState.SUSPECT, NodeState.DRAINING])),
            **draw(
                st.sampled_from([{}, {}, {"arch": "arm"}, {"virtual": "yes"}, {"sandbox": "none", "arch": "arm"}]),
            ),
        )
    accounts = [play.account(draw(st.sampled_from([0, 5e3, 1e6])), draw(st.integers(1, 3))) for _ in range(3)]
    for _ in range(draw(st.integers(0, 4))):
        for asked in draw(st.lists(REQUESTS, max_size=5)):
            play.submit(asked, draw(st.sampled_from(accounts)))
        if draw(st.booleans()):
            play.step()
        running = play.running()
        for job, task in draw(st.lists(st.sampled_from(running), unique_by=repr, max_size=4)) if running else ():
            play.finish(job.id, task.index)
        play.later(draw(st.sampled_from([1, 90_000, 2 * HOUR_MS])))
    for asked in draw(st.lists(REQUESTS, min_size=1, max_size=5)):
        play.submit(asked, draw(st.sampled_from(accounts)))
    return play


@st.composite
def crowded_plays(draw: st.DrawFn) -> Play:
    """A full site of equal nodes on which something large waits before much that is small and short."""
    play = Play()
    nodes, cpus = draw(st.integers(2, 4)), draw(st.sampled_from([2, 4]))
    for _ in range(nodes):
        play.node(cpus, gib=64)
    for _ in range(draw(st.integers(1, nodes * cpus))):
        play.submit(request(1, time_ms=draw(st.sampled_from([60_000, 600_000, HOUR_MS]))))
        play.step()
        play.later(draw(st.sampled_from([1000, 45_000])))
    for _ in range(draw(st.integers(1, 3))):
        large = request(draw(st.integers(1, cpus)), nodes=draw(st.integers(1, nodes)), time_ms=HOUR_MS)
        play.submit(large)
    for _ in range(draw(st.integers(1, 6))):
        play.submit(request(1, time_ms=draw(st.sampled_from([20_000, 60_000, 600_000, HOUR_MS, 3 * HOUR_MS]))))
    for job, task in draw(st.lists(st.sampled_from(play.running()), unique_by=repr, max_size=3)):
        play.finish(job.id, task.index)
    return play


def taken(play: Play, places: list[Place]) -> dict[str, Devices]:
    """What every node gives, these placements included."""
    sums: dict[str, Devices] = {}
    held = [(job, task.nodes[rank]) for job, task in play.running() for rank in task.live_ranks()]
    for job, node in held + [(play.job(place.job), node) for place in places for node in place.nodes]:
        sums[node] = sums.get(node, Devices()) + job.request.needs
    return sums


@given(plays())
@LAW
def test_a_plan_never_exceeds_what_a_node_has(play: Play):
    places = play.plan()
    for node, devices in taken(play, places).items():
        assert play.site.nodes.by_id[node].devices.covers(devices)


@given(plays())
@LAW
def test_a_plan_uses_only_open_nodes_whose_labels_match(play: Play):
    for place in play.plan():
        for name in place.nodes:
            node = play.site.nodes.by_id[name]
            assert node.open
            assert not unmet(shape_of(play.job(place.job).request).terms, node.labels)


@given(plays())
@LAW
def test_a_gang_gets_distinct_nodes_and_as_many_as_it_asked_for(play: Play):
    for place in play.plan():
        assert len(set(place.nodes)) == len(place.nodes) == play.job(place.job).request.nodes


def _next_indices(job: Job, count: int) -> list[int]:
    """The indices of the next tasks to place: what waits again, then what never started, oldest first."""
    fresh = (index for position in range(job.cursor, job.size) if (index := job.index_at(position)) not in job.tasks)
    return [*job.again, *fresh][:count]


@given(plays())
@LAW
def test_no_task_is_placed_twice_nor_beyond_a_throttle(play: Play):
    places = play.plan()
    assert len({(place.job, place.index) for place in places}) == len(places)
    for name, count in Counter(place.job for place in places).items():
        assert count <= play.job(name).placeable
        assert {place.index for place in places if place.job == name} == set(_next_indices(play.job(name), count))


@given(plays())
@LAW
def test_the_same_state_gives_the_same_plan_however_it_came_about(play: Play):
    before = repr((play.site, play.queue._facts()))
    places = play.plan()
    assert plan(play.site, Index.of(play.site).queue, play.now_ns) == places == play.plan()
    site = mounted().State(play.site.nodes, play.site.accounts, jobs=play.site.jobs)
    site.nodes.by_id = dict(reversed(site.nodes.by_id.items()))
    site.jobs.by_id = dict(sorted(site.jobs.by_id.items()))
    site.accounts.by_id = dict(reversed(site.accounts.by_id.items()))
    assert plan(site, Index.of(site).queue, play.now_ns) == places
    site.nodes.by_id = dict(sorted(site.nodes.by_id.items()))
    site.jobs.by_id = dict(sorted(site.jobs.by_id.items(), key=lambda item: number_of(item[0])))
    site.accounts.by_id = dict(sorted(site.accounts.by_id.items()))
    assert repr((play.site, play.queue._facts())) == before  # and changes nothing


@given(plays())
@LAW
def test_the_queue_that_is_kept_current_equals_the_one_built_anew(play: Play):
    assert play.queue == Index.of(play.site).queue
    play.step()
    assert play.queue == Index.of(play.site).queue


@given(plays() | crowded_plays())
@settings(LAW, max_examples=200)
def test_whoever_starts_leaves_the_nodes_kept_for_those_before_as_they_must_be(play: Play):
    """At its promised time every reserved job has its devices, if tasks run to their limits and no longer."""
    world = World(play.site, play.queue, play.now_ns)
    looked = Pass(world)
    given_ = looked.run(4000)
    leases = looked.world.leases()
    for kept in looked.kept:
        start_ns = kept.reserved.start_ns
        for slot in kept.reserved.slots:
            free = world.table.total[:, slot] - world.used[:, slot]
            back = (leases.slots == slot) & (leases.ends_ns <= start_ns)
            free = free + leases.devices[:, back].sum(axis=1)
            for one in given_:
                if slot in one.slots and play.now_ns + one.job.request.time_ms * MS_NS > start_ns:
                    needs = one.job.request.needs
                    free = free - (needs.cpu_m, needs.memory_bytes, needs.gpus)
            assert (free >= kept.wanted.needs).all()


@given(plays())
@LAW
def test_no_lower_class_takes_what_a_higher_class_could_have_started_with(play: Play):
    """Without what the lower classes got, the higher classes get the same."""
    places = play.plan()
    for priority in Priority:
        above = [place for place in places if play.job(place.job).request.priority >= priority]
        alone = Play()
        alone.site, alone.now_ns = mounted().State(play.site.nodes, play.site.accounts), play.now_ns
        alone.site.jobs.next_number = play.site.jobs.next_number
        alone.site.jobs.by_id = {
            name: job
            for name, job in play.site.jobs.by_id.items()
            if job.leased or job.ended_ns or job.request.priority >= priority
        }
        alone.index = Index.of(alone.site)
        got = [place for place in alone.plan() if play.job(place.job).request.priority >= priority]
        assert got == above


@given(plays() | crowded_plays())
@LAW
def test_what_could_run_on_an_idle_site_is_placed_within_bounded_time(play: Play):
    """Plan, let the oldest task end, plan again: everything that fits the open nodes at all has run in the end."""
    table = play.queue.table
    fit = Fit(table, table.used * 0)
    possible = [
        job.id
        for job in play.site.jobs.by_id.values()
        if job.placeable > 0 and fit.ever(fit.wanted(shape_of(job.request)))
    ]
    rounds = sum(play.job(name).size for name in play.site.jobs.by_id) + 1
    for _ in range(rounds):
        play.step()
        running = play.running()
        if not running:
            break
        job, task = min(running, key=lambda pair: (pair[1].placed_ns + pair[0].request.time_ms * MS_NS, pair[0].id))
        play.now_ns = max(play.now_ns, task.placed_ns + job.request.time_ms * MS_NS)
        play.finish(job.id, task.index)
    assert all(play.job(name).ended == play.job(name).size for name in possible)


@given(st.integers(2, 5), st.integers(2, 5), st.sampled_from([30_000, 60_000, 200_000]), st.booleans())
@settings(LAW, max_examples=25)
def test_a_stream_of_small_jobs_does_not_starve_a_large_gang(nodes: int, cpus: int, time_ms: int, greedy: bool):
    """A gang that needs every node whole starts as soon as the tasks that ran when it came have ended."""
    play = Play()
    for _ in range(nodes):
        play.node(cpus)
    small = play.account()
    large = small if greedy else play.account(spent=100.0)  # the stream's account comes first, or is its own
    stream = request(1, time_ms=time_ms)
    for _ in range(nodes * cpus):  # they began one after the other, so never do they all end at once
        play.submit(stream, small)
        play.step()
        play.later(time_ms // (nodes * cpus + 1))
    gang = play.submit(request(cpus, nodes=nodes), large)
    waited = 0
    while not play.job(gang).leased:
        assert waited <= nodes * cpus + 1, "the gang starves"
        play.later(time_ms // (nodes * cpus + 1))
        waited += 1
        for job, task in play.running():
            if play.now_ns >= task.placed_ns + time_ms * MS_NS:
                play.finish(job.id, task.index)
        for _ in range(3):
            play.submit(stream, small)
        play.step()


@given(plays() | crowded_plays())
@settings(LAW, max_examples=60)
def test_what_is_never_to_start_does_not_start_and_every_answer_can_be_said(play: Play):
    """Whoever is told "never" is not placed while the nodes stay as they are; and a promised "now" is kept."""
    never: set[str] = set()
    for job in list(play.site.jobs.by_id.values()):
        found = why(play.site, play.queue, job.id, None, play.now_ns)
        assert all(line.strip() for line in say(found))
        assert say(found)
        assert msgspec.json.encode(found)
        assert bool(reason(play.site, play.queue, job, play.now_ns)) == (job.waiting > 0)
        if found.expected is not None and found.expected.sure is Sure.NEVER:
            never.add(job.id)
        if found.expected is not None and found.expected.sure is Sure.NOW:
            assert job.id in {place.job for place in play.plan()}
    for _ in range(60):
        assert not never & {place.job for place in play.step()}
        running = play.running()
        if not running:
            break
        for job, task in running:
            play.finish(job.id, task.index)
        play.later(60_000)
