"""What the head tells a gateway of the others."""

from __future__ import annotations

from mycelium.base.ids import JobId
from mycelium.head.replicas import GATEWAY_GONE_NS, Replicas
from mycelium.inference.commands import Others, Report, Seen, Spent
from mycelium.inference.plan import PACE

JOB = JobId("job-1")


def said(boot: str, active: int, lines: int, spent: int) -> Report:
    return Report(boot, "", (), (Seen(JOB, 1, True, active, lines=lines),), spent=(Spent("key-1", spent, 0),))


def test_a_gateway_hears_of_all_the_others_and_not_of_itself():
    replicas = Replicas(PACE)
    replicas.heard(said("a", 3, 1, 7), 0)
    assert replicas.others("a", 0) == Others()
    replicas.heard(said("b", 2, 0, 5), 0)
    replicas.heard(said("c", 4, 4, 1), 0)
    told = replicas.others("a", 0)
    assert told.spent == {"b": (Spent("key-1", 5, 0),), "c": (Spent("key-1", 1, 0),)}
    assert (told.people, told.lines) == ({JOB: 2}, {JOB: 4})


def test_a_gateway_that_is_silent_counts_no_more():
    replicas = Replicas(PACE)
    replicas.heard(said("b", 2, 0, 5), 0)
    assert replicas.others("a", GATEWAY_GONE_NS - 1).people == {JOB: 2}
    assert replicas.others("a", GATEWAY_GONE_NS) == Others()
