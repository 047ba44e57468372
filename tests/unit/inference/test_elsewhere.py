"""What keys spend at other gateways is charged here, once."""

from __future__ import annotations

from mycelium.inference.buckets import Limits
from mycelium.inference.commands import Spent
from mycelium.inference.elsewhere import SPELL_S, Elsewhere, Spending


def test_what_has_grown_is_news_and_what_is_said_again_is_not():
    here = Elsewhere()
    assert here.news({}) == []
    assert here.news({"a": [Spent("key-1", 2, 50)]}) == [Spent("key-1", 2, 50)]
    assert here.news({"a": [Spent("key-1", 2, 50)]}) == []
    assert here.news({"a": [Spent("key-1", 5, 80)]}) == [Spent("key-1", 3, 30)]


def test_several_gateways_are_counted_apart():
    here = Elsewhere()
    here.news({})
    assert here.news({"a": [Spent("key-1", 2, 0)], "b": [Spent("key-1", 7, 0)]}) == [
        Spent("key-1", 2, 0),
        Spent("key-1", 7, 0),
    ]
    assert here.news({"a": [Spent("key-1", 2, 0)], "b": [Spent("key-1", 8, 0)]}) == [Spent("key-1", 1, 0)]


def test_a_gateway_that_begins_does_not_charge_the_past_of_the_others():
    here = Elsewhere()
    assert here.news({"a": [Spent("key-1", 900, 9000)]}) == []
    assert here.news({"a": [Spent("key-1", 901, 9010)]}) == [Spent("key-1", 1, 10)]


def test_a_head_that_begins_anew_and_does_not_know_the_others_yet_changes_nothing():
    here = Elsewhere()
    here.news({"a": [Spent("key-1", 900, 0)]})
    assert here.news({}) == []
    assert here.news({"a": [Spent("key-1", 900, 0)]}) == []


def test_after_a_spell_a_key_begins_at_nothing():
    there, here = Spending(), Elsewhere()
    here.news({})
    there.add("key-1", 1, 40, 0.0)
    assert here.news({"a": there.told(1.0)}) == [Spent("key-1", 1, 40)]
    assert here.news({"a": there.told(SPELL_S)}) == []
    there.add("key-1", 1, 10, SPELL_S + 1)
    assert here.news({"a": there.told(SPELL_S + 1)}) == [Spent("key-1", 1, 10)]


def test_what_an_answer_did_not_need_is_given_back():
    there, here, limits = Spending(), Elsewhere(), Limits(0, 60, 0.0)
    here.news({})
    there.add("key-1", 1, 60, 0.0)
    for one in here.news({"a": there.told(0.0)}):
        limits.charge(one.requests, one.tokens, 0.0)
    assert limits.ask(20, 0.0) == ("tokens", 20.0)
    there.add("key-1", 0, -40, 0.0)
    for one in here.news({"a": there.told(0.0)}):
        limits.charge(one.requests, one.tokens, 0.0)
    assert limits.ask(20, 0.0) == ("", 0.0)


def test_two_gateways_that_hear_of_each_other_give_together_what_one_would_give():
    """Both are asked as often as they allow for ten minutes, and hear of each other each second."""
    rpm, minutes, given = 30, 10, 0
    spending = {name: Spending() for name in "ab"}
    heard = {name: Elsewhere() for name in "ab"}
    limits = {name: Limits(rpm, 0, 0.0) for name in "ab"}
    for now_s in map(float, range(minutes * 60)):
        for name, other in ("ab", "ba"):
            for one in heard[name].news({other: spending[other].told(now_s)}):
                limits[name].charge(one.requests, one.tokens, now_s)
            while limits[name].ask(0, now_s) == ("", 0.0):
                spending[name].add("key-1", 1, 0, now_s)
                given += 1
    assert rpm * minutes <= given <= rpm * (minutes + 2), "and one bucketful more, from before they heard"
