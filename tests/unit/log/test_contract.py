"""The contract of `contract.py`, held against the log in memory and the log in SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mycelium.log import MemoryLog, open_log
from mycelium.log.sql import SqlLog
from tests.unit.log.contract import LogContract, Reopen


class TestMemory(LogContract):
    @pytest.fixture
    def reopen(self) -> Reopen:
        log = MemoryLog()

        def reopen() -> MemoryLog:
            nonlocal log
            log = log.reopen()
            return log

        return reopen


class TestSqlite(LogContract):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Iterator[Reopen]:
        opened: list[SqlLog] = []

        def reopen() -> SqlLog:
            for log in opened:
                log.close()
            opened.append(open_log(tmp_path / "site.db"))
            return opened[-1]

        yield reopen
        for log in opened:
            log.close()
