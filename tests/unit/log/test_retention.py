from __future__ import annotations

import pytest

from mycelium.base.errors import Refused
from mycelium.base.limits import LOG_EVENTS_MAX, LOG_FILE_EVENTS, LOG_KEEP_S
from mycelium.base.units import DAY_S, S_NS
from mycelium.log.retention import Keep, Stock, file_name, next_piece, parse_keep, surplus_seq


def test_days_and_forever_are_read_and_nothing_else() -> None:
    assert parse_keep("30") == Keep(30 * DAY_S * S_NS, LOG_EVENTS_MAX)
    assert parse_keep("0").age_ns == 0
    assert parse_keep("forever") == Keep(None, None)
    for wrong in ("", "-1", "1.5", "thirty", "99999", "30d", "\u0663"):
        with pytest.raises(Refused, match="log_keep is"):
            parse_keep(wrong)


def test_the_default_keeps_a_month_and_never_more_than_a_bound() -> None:
    keep = Keep()
    assert keep.age_ns == LOG_KEEP_S * S_NS
    assert surplus_seq(Stock(0, 500, 0), keep, old_seq=100) == 100
    assert surplus_seq(Stock(0, LOG_EVENTS_MAX + 500, 0), keep, old_seq=100) == 500  # young, and too many all the same


def test_who_keeps_for_ever_loses_nothing_by_itself() -> None:
    assert surplus_seq(Stock(0, 10 * LOG_EVENTS_MAX, 0), parse_keep("forever"), old_seq=10**6) == 0


def test_nothing_goes_that_a_start_may_need() -> None:
    assert next_piece(Stock(0, 1000, 400), 900, whole=False) == 400
    assert next_piece(Stock(400, 1000, 400), 900, whole=False) == 0


def test_by_itself_only_full_files_are_made_and_a_person_gets_what_there_is() -> None:
    short = LOG_FILE_EVENTS - 1
    assert next_piece(Stock(0, short, short), short, whole=True) == 0
    assert next_piece(Stock(0, short, short), short, whole=False) == short
    many = 3 * LOG_FILE_EVENTS
    assert next_piece(Stock(7, many, many), many, whole=True) == 7 + LOG_FILE_EVENTS


def test_names_of_files_sort_as_their_events_do() -> None:
    names = [file_name(1, 50_000), file_name(50_001, 100_000), file_name(1_000_001, 1_050_000)]
    assert sorted(names) == names
    assert file_name(1, 2, copy=2) != file_name(1, 2)
