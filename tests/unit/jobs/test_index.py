"""What is derived from the state: kept current, and equal to what is built anew."""

from __future__ import annotations

import pytest

from mycelium.base.ids import JobId, NodeId
from mycelium.jobs.commands import Cancel
from mycelium.jobs.domain import index_of
from mycelium.jobs.index import Index
from tests.unit.head.played import ADA, BAD, STOPPED, Played, array, request

PARTS = ("leases", "waiters", "takers", "queue")


@pytest.fixture
def site() -> Played:
    return Played()


def same(site: Played) -> bool:
    anew = Index.of(site.core.site)
    return all(getattr(index_of(site.core.view), part) == getattr(anew, part) for part in PARTS)


def test_a_lease_is_held_until_every_step_is_gone(site: Played) -> None:
    site.submit(request(nodes=2))
    assert set(index_of(site.core.view).leases) == {"node-1", "node-2"}
    site.exited("node-1", "job-1-a1-r0", BAD)
    assert index_of(site.core.view).leases == {"node-2": {("job-1", 0)}}
    assert same(site)
    site.exited("node-2", "job-1-a1-r1", STOPPED)
    assert index_of(site.core.view).leases == {}
    assert same(site)


def test_who_waits_is_known_until_it_is_released(site: Played) -> None:
    site.submit(request(), request())
    site.submit(request(after=(JobId("job-1"), JobId("job-2"))))
    assert index_of(site.core.view).waiters == {"job-1": {"job-3"}, "job-2": {"job-3"}}
    site.exited("node-1", "job-1-a1-r0")
    assert index_of(site.core.view).waiters == {"job-2": {"job-3"}}
    assert same(site)


def test_who_is_cancelled_waits_no_more(site: Played) -> None:
    site.submit()
    site.submit(request(after=(JobId("job-1"),), inputs=(JobId("job-1"),)))
    assert index_of(site.core.view).takers == {"job-1": {"job-2"}}
    site.do(Cancel(ADA, JobId("job-2")))
    assert index_of(site.core.view).waiters == index_of(site.core.view).takers == {}
    assert same(site)


def test_leases_are_told_in_the_order_of_their_names_and_as_they_are_when_asked(site: Played) -> None:
    site.submit(request(array=array(3)))
    node = NodeId("node-1")
    told: list[int] = []
    for _, task in index_of(site.core.view).leased_on(site.core.site, node):
        told.append(task.index)
        if task.index == 0:
            site.exited("node-1", "job-1.1-a1-r0")
    assert told == [0, 2]


def test_an_index_is_equal_after_everything(site: Played) -> None:
    site.submit(request(array=array(8, throttle=3), retries=1), request(2), request(nodes=2))
    for index in range(3):
        site.exited(site.task(index=index).nodes[0], f"job-1.{index}-a1-r0", BAD)
        assert same(site)
    site.do(Cancel(ADA, JobId("job-1")))
    assert same(site)
