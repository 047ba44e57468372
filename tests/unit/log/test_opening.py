"""What a log finds where it is opened: nothing, itself, another version, a stranger, or ruins."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from mycelium.base.errors import Conflict, Missing, Problem, Refused, Unavailable
from mycelium.log import open_log

EVENTS = [("a", b"1"), ("b", b"2"), ("c", b"3")]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with a closed log of 9 events."""
    log = open_log(tmp_path / "site.db")
    for time_ns in range(3):
        log.append(time_ns, EVENTS)
    log.close()
    return tmp_path


def change(home: Path, *statements: str) -> None:
    with sqlite3.connect(home / "site.db") as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def refusal(where: str | Path, *, read_only: bool = False) -> Problem:
    with pytest.raises(Problem) as told:
        open_log(where, read_only=read_only)
    return told.value


def test_a_closed_log_is_one_file_that_only_its_owner_reads(home: Path) -> None:
    assert sorted(path.name for path in home.iterdir()) == ["site.db", "site.db.lock"]
    for path in home.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_second_opener_is_told_who_holds_the_log(home: Path) -> None:
    log = open_log(home / "site.db")
    (home / "alias.db").symlink_to(home / "site.db")
    for name in ("site.db", "alias.db"):
        told = refusal(home / name)
        assert isinstance(told, Conflict)
        assert f"process {os.getpid()}" in told.message
    log.close()
    open_log(home / "site.db").close()


def test_a_log_can_be_read_and_verified_while_it_is_written(home: Path) -> None:
    log = open_log(home / "site.db")
    reader = open_log(home / "site.db", read_only=True)
    assert reader.verify().events == 9
    log.append(5, EVENTS)
    assert reader.verify().events == 12
    assert len(list(reader.read(9))) == 3
    with pytest.raises(Unavailable, match="opened to read"):
        reader.append(1, EVENTS)
    reader.close()
    log.close()


def test_an_unknown_format_is_refused_and_nothing_is_touched(home: Path) -> None:
    change(
        home, "UPDATE meta SET value = '99' WHERE key = 'format'", "DROP TABLE snapshot", "PRAGMA journal_mode=DELETE"
    )
    before = (home / "site.db").read_bytes()
    for read_only in (False, True):
        told = refusal(home / "site.db", read_only=read_only)
        assert isinstance(told, Refused)
        assert told.message.endswith("has format 99; this version reads format 1")
        assert told.hint
    assert (home / "site.db").read_bytes() == before


def test_a_new_log_is_made_where_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "site.db").touch()  # a head that was killed before it wrote anything
    log = open_log(tmp_path / "site.db")
    assert log.append(1, EVENTS) == 3
    log.close()


@pytest.mark.parametrize("ruin", ["delete", "empty"])
def test_a_database_that_vanished_is_not_taken_for_a_new_one(home: Path, ruin: str) -> None:
    if ruin == "delete":
        (home / "site.db").unlink()
    else:
        os.truncate(home / "site.db", 0)
    told = refusal(home / "site.db")
    assert "is empty or gone" in told.message
    assert "site.db.lock" in told.hint
    (home / "site.db.lock").unlink()  # what the hint says
    log = open_log(home / "site.db")
    assert log.last_seq == 0
    log.close()


def test_a_database_cut_short_is_refused(home: Path) -> None:
    size = (home / "site.db").stat().st_size
    for kept in (size - 4096, size // 2, 4096, 1000, 10):
        os.truncate(home / "site.db", kept)
        assert isinstance(refusal(home / "site.db"), Refused), kept


def test_an_older_copy_is_refused_until_a_person_says_otherwise(home: Path) -> None:
    older = (home / "site.db").read_bytes()
    log = open_log(home / "site.db")
    log.append(9, EVENTS)
    log.close()
    (home / "site.db").write_bytes(older)
    told = refusal(home / "site.db")
    assert "ends with event 9, but had 12" in told.message
    (home / "site.db.lock").unlink()
    log = open_log(home / "site.db")
    assert log.last_seq == 9
    log.close()


@pytest.mark.parametrize(
    "ruin",
    [
        "DELETE FROM event",
        "DELETE FROM event WHERE seq = 9",
        "UPDATE event SET hash = x'00' WHERE seq = 9",
        "INSERT INTO event VALUES (10, 1, 'a', x'00', x'00', '')",
        "DELETE FROM meta",
        "DELETE FROM meta WHERE key = 'tail'",
        "DELETE FROM meta WHERE key = 'log'",
        "UPDATE meta SET value = 'nonsense' WHERE key = 'tail'",
        "UPDATE meta SET value = 'nonsense' WHERE key = 'pruned'",
        "UPDATE meta SET value = 'x' WHERE key = 'format'",
        "DROP TABLE event",
        "DROP TABLE archive",
        "DROP TABLE meta",
    ],
)
def test_a_log_with_something_missing_is_refused(home: Path, ruin: str) -> None:
    change(home, ruin)
    told = refusal(home / "site.db")
    assert isinstance(told, Refused)
    assert told.hint


def test_a_database_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    for number, statement in enumerate(["CREATE TABLE photos (id)", "CREATE TABLE meta (key, note)"]):
        path = tmp_path / f"{number}.db"
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        connection.close()
        before = path.read_bytes()
        assert isinstance(refusal(path), Refused)
        assert path.read_bytes() == before


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a shopping list, long enough to be read as a header\n" * 100)
    assert "damaged" in refusal(tmp_path / "text").message
    assert (tmp_path / "text").read_text().startswith("a shopping list")
    assert isinstance(refusal(tmp_path), Problem)
    assert isinstance(refusal(tmp_path / "no" / "such" / "folder" / "site.db"), Missing)
    assert isinstance(refusal(tmp_path / "new.db", read_only=True), Missing)
    assert not (tmp_path / "new.db").exists()


def test_a_path_may_hold_any_character(tmp_path: Path) -> None:
    for name in ("with space", "50%", "a?b=c", "a#b", "ümlaut", "quote'\""):
        log = open_log(tmp_path / name)
        log.append(1, EVENTS)
        log.close()
        assert (tmp_path / name).stat().st_size > 0
        log = open_log(f"sqlite:///{tmp_path / name}")
        assert log.last_seq == 3
        log.close()


@pytest.mark.parametrize(
    "where",
    ["mysql://host/name", "sqlite://", "", "postgresql://host:port/x", "postgresql://[::1/x", "a\0b", "http://x"],
)
def test_a_place_that_cannot_hold_a_log_is_refused(where: str) -> None:
    told = refusal(where)
    assert isinstance(told, Refused)
    assert told.hint
