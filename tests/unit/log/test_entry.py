from __future__ import annotations

import pytest
from msgspec.structs import replace

from mycelium.log import Torn
from mycelium.log.entry import START, Mark, chain, follow, mark_after, parse_mark

EVENTS = [("a", b"1"), ("b", b"2"), ("c", b"3")]


def torn_at(entries: list, after: Mark = START) -> int:
    with pytest.raises(Torn) as told:
        list(follow(entries, after))
    return told.value.seq


def test_a_chain_goes_on_where_the_one_before_ended() -> None:
    whole = chain(START, 1, EVENTS)
    first = chain(START, 1, EVENTS[:2])
    assert whole == first + chain(mark_after(first, START), 1, EVENTS[2:])
    assert list(follow(whole, START)) == whole


def test_every_field_of_an_event_is_in_its_hash() -> None:
    (event,) = chain(START, 1, [("ab", b"c")])
    for changed in (
        replace(event, time_ns=2),
        replace(event, kind="ac"),
        replace(event, data=b"d"),
        replace(event, kind="a", data=b"bc"),  # the border between kind and data
        replace(event, hash=bytes(32)),
    ):
        assert torn_at([changed]) == 1


def test_a_dropped_added_or_moved_event_tears_the_chain_where_it_happened() -> None:
    one, two, three = chain(START, 1, EVENTS)
    assert torn_at([one, three]) == 2
    assert torn_at([one, two, two, three]) == 3
    assert torn_at([two, one, three]) == 1
    assert torn_at([one, replace(three, seq=2)]) == 2
    assert torn_at([two, three]) == 1


def test_a_value_of_another_type_is_a_tear_and_no_crash() -> None:
    """What a damaged row of SQLite may give."""
    (event,) = chain(START, 1, EVENTS[:1])
    for field, values in {
        "time_ns": ("1", None, 2**64, 1.5, b""),
        "kind": (b"a", None, 7, "\udc80"),
        "data": ("1", None, 10**12),
        "hash": ("x", None, 1),
    }.items():
        for value in values:
            assert torn_at([replace(event, **{field: value})]) == 1


def test_a_mark_is_read_back_as_written() -> None:
    mark = mark_after(chain(START, 12, EVENTS), START)
    assert parse_mark(str(mark)) == mark
    assert parse_mark(str(START)) == START
