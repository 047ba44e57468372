"""The log in a real PostgreSQL: the whole contract, and what happens when the server goes away."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psycopg
import pytest

from mycelium.base.errors import Conflict, Missing, Refused, Unavailable
from mycelium.log import open_log
from mycelium.log.sql import SqlLog
from tests.live.postgres import PostgresServer, postgres_server, postgres_url  # noqa: F401
from tests.unit.log.contract import EVENTS, LogContract, Reopen, filled


class TestPostgres(LogContract):
    @pytest.fixture
    def reopen(self, postgres_url: str) -> Iterator[Reopen]:  # noqa: F811
        opened: list[SqlLog] = []

        def reopen() -> SqlLog:
            for log in opened:
                log.close()
            opened.append(open_log(postgres_url))
            return opened[-1]

        yield reopen
        for log in opened:
            log.close()


@pytest.fixture
def log(postgres_url: str) -> Iterator[SqlLog]:  # noqa: F811
    log = open_log(postgres_url)
    yield log
    log.close()


def ask(url: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def end_connections(url: str) -> None:
    ask(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


def test_a_second_head_is_told_who_holds_the_log(log: SqlLog, postgres_url: str) -> None:  # noqa: F811
    with pytest.raises(Conflict, match=f"process {os.getpid()} on "):
        open_log(postgres_url)
    assert log.append(1, EVENTS) == 3
    log.close()
    open_log(postgres_url).close()


def test_two_databases_of_one_server_hold_two_logs(log: SqlLog, postgres_server: PostgresServer) -> None:  # noqa: F811
    other = open_log(postgres_server.new_database())
    assert other.append(1, EVENTS) == log.append(1, EVENTS) == 3
    other.close()


def test_a_lost_connection_ends_the_log_and_writes_no_half(log: SqlLog, postgres_url: str) -> None:  # noqa: F811
    filled(log, 5)
    end_connections(postgres_url)
    with pytest.raises(Unavailable, match="not answering"):
        log.append(2, EVENTS)
    with pytest.raises(Unavailable):
        log.append(3, EVENTS)  # a new connection would have no lock
    with pytest.raises(Unavailable):
        log.save_snapshot(5, 1, b"")
    log.close()
    again = open_log(postgres_url)
    assert again.last_seq == 5
    assert again.verify().ok
    again.close()


def test_a_connection_lost_between_appends_lets_another_head_in_but_never_two_write(
    log: SqlLog,
    postgres_url: str,  # noqa: F811
) -> None:
    filled(log, 5)
    end_connections(postgres_url)
    other = open_log(postgres_url)
    other.append(3, EVENTS)
    with pytest.raises(Unavailable):
        log.append(2, EVENTS)
    assert other.append(3, EVENTS) == 11
    assert other.verify().ok
    other.close()


def test_a_crashed_server_has_kept_every_append_that_returned() -> None:
    server = PostgresServer()
    try:
        url = server.new_database()
        log = open_log(url)
        for _ in range(20):
            log.append(1, EVENTS)
        server.crash()
        with pytest.raises(Unavailable):
            log.append(2, EVENTS)
        with pytest.raises(Unavailable, match="not answering"):
            open_log(url)
        log.close()
        server.restart()
        log = open_log(url)
        assert log.last_seq == 60
        assert log.verify().ok
        log.close()
    finally:
        server.stop()


def test_commits_wait_for_the_disk_even_where_the_server_does_not(postgres_url: str) -> None:  # noqa: F811
    ask(postgres_url, "ALTER DATABASE " + postgres_url.split("/")[3].split("?")[0] + " SET synchronous_commit = off")
    log = open_log(postgres_url)
    with log._writing() as connection:  # the setting belongs to this very connection
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
    log.close()


def test_a_log_is_verified_while_another_process_writes_it(log: SqlLog, postgres_url: str) -> None:  # noqa: F811
    filled(log, 2_000)
    reader = open_log(postgres_url, read_only=True)
    assert reader.verify().events == 2_000
    log.append(1, EVENTS)
    assert reader.verify().events == 2_003
    with pytest.raises(Unavailable, match="opened to read"):
        reader.append(1, EVENTS)
    reader.close()


def test_a_changed_row_is_found(log: SqlLog, postgres_url: str) -> None:  # noqa: F811
    filled(log, 2_000)
    ask(postgres_url, "UPDATE event SET data = 'x' WHERE seq = 1234")
    assert log.verify().bad_seq == 1234
    ask(postgres_url, "DELETE FROM event WHERE seq = 700")
    assert log.verify().bad_seq == 700


def test_events_missing_from_the_end_are_noticed_when_opening(log: SqlLog, postgres_url: str) -> None:  # noqa: F811
    filled(log, 10)
    log.close()
    ask(postgres_url, "DELETE FROM event WHERE seq > 8")
    with pytest.raises(Refused, match="event 9 of the log is missing"):
        open_log(postgres_url)


def test_a_database_of_somebody_else_is_left_alone(postgres_url: str) -> None:  # noqa: F811
    ask(postgres_url, "CREATE TABLE invoices (id int)")
    with pytest.raises(Refused, match="invoices"):
        open_log(postgres_url)
    assert ask(postgres_url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(1,)]


def test_an_unknown_format_is_refused_and_left_alone(log: SqlLog, postgres_url: str) -> None:  # noqa: F811
    log.close()
    ask(postgres_url, "UPDATE meta SET value = '2' WHERE key = 'format'")
    with pytest.raises(Refused, match="format 2"):
        open_log(postgres_url)


def test_no_server_no_database_and_no_such_user_are_told_apart_from_damage(postgres_url: str) -> None:  # noqa: F811
    secret = "hunter2"
    for url in (
        f"postgresql://postgres:{secret}@/nothing?host=/nonexistent",
        f"postgresql://postgres:{secret}@127.0.0.1:1/nothing",
        postgres_url.replace("postgres@", f"nobody:{secret}@"),
    ):
        with pytest.raises(Unavailable) as told:
            open_log(url)
        assert secret not in told.value.message + told.value.hint
    with pytest.raises(Missing):
        open_log(postgres_url, read_only=True)
