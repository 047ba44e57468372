"""What was used since the last window, by key and deployment, until the head has it in its log."""

from __future__ import annotations

import time

from mycelium.base.ids import AccountId
from mycelium.inference.commands import Report
from mycelium.inference.events import UsageRow
from mycelium.inference.model import Used

WINDOW_S = 2.0


class Meter:
    def __init__(self) -> None:
        self._rows: dict[tuple[str, AccountId, str], Used] = {}
        self._from_ns = time.time_ns()
        self._number = 0
        self._pending: tuple[int, int, int, tuple[UsageRow, ...]] | None = None

    def add(self, key: str, account: AccountId, deployment: str, used: Used) -> None:
        place = (key, account, deployment)
        self._rows[place] = self._rows.get(place, Used()) + used

    def window(self, *, now: bool = False) -> tuple[int, int, int, tuple[UsageRow, ...]]:
        """The window to report: the same one until `told`. Number 0 means that there is none."""
        to_ns = time.time_ns()
        if self._pending is None and self._rows and (now or to_ns - self._from_ns >= WINDOW_S * 1e9):
            self._number += 1
            rows = tuple(UsageRow(*place, used) for place, used in self._rows.items())
            self._pending = (self._number, self._from_ns, to_ns, rows)
            self._rows, self._from_ns = {}, to_ns
        return self._pending or (0, 0, 0, ())

    def told(self, report: Report) -> None:
        """The head has this window in its log."""
        if self._pending is not None and report.number == self._pending[0]:
            self._pending = None

    def empty(self) -> bool:
        return self._pending is None and not self._rows
