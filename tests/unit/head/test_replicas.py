"""What the head tells a gateway of the others."""

from __future__ import annotations

from mycelium.base.ids import JobId
from mycelium.base.units import S_NS
from mycelium.inference.commands import Others, Report, SeenReplica, Spent
from mycelium.inference.plan import PACE
from mycelium.inference.replicas import GATEWAY_GONE_NS, WHOLE_NS, Replicas

JOB = JobId("job-1")


def said(boot: str, active: int, lines: int, spent: int) -> Report:
    return Report(boot, "", (), (SeenReplica(JOB, 1, True, active, lines=lines),), spent=(Spent("key-1", spent, 0),))


def test_a_gateway_hears_of_all_the_others_and_not_of_itself():
    replicas = Replicas(PACE)
    replicas.heard(asks := said("a", 3, 1, 7), 0)
    assert replicas.others(asks, 0) == Others()
    replicas.heard(said("b", 2, 0, 5), 0)
    replicas.heard(said("c", 4, 4, 1), 0)
    told = replicas.others(asks, 0)
    assert told.spent == {"b": (Spent("key-1", 5, 0),), "c": (Spent("key-1", 1, 0),)}
    assert (told.people, told.lines) == ({JOB: 2}, {JOB: 4})


def test_a_gateway_that_is_silent_counts_no_more():
    replicas = Replicas(PACE)
    replicas.heard(said("b", 2, 0, 5), 0)
    assert replicas.others(said("a", 0, 0, 0), GATEWAY_GONE_NS - 1).people == {JOB: 2}
    assert replicas.others(said("a", 0, 0, 0), GATEWAY_GONE_NS) == Others()


def test_what_keys_spent_is_kept_between_reports_that_say_it_and_told_to_those_that_do():
    replicas = Replicas(PACE)
    replicas.heard(said("b", 2, 0, 5), 0)
    replicas.heard(Report("b", ""), 1)
    assert replicas.others(said("a", 0, 0, 0), 1).spent == {"b": (Spent("key-1", 5, 0),)}
    assert replicas.others(Report("a", ""), 1).spent == {}


def test_a_head_that_has_just_begun_to_hear_does_not_take_a_replica_for_idle():
    """Another gateway may have a stream there, and not have said so yet."""
    replicas = Replicas(PACE)
    assert not replicas.load(0).whole
    replicas.heard(said("a", 0, 0, 0), S_NS)
    assert not replicas.load(S_NS + WHOLE_NS - 1).whole
    assert replicas.load(S_NS + WHOLE_NS).whole
