"""The only place that reads a clock.

A site's time never runs backwards and never jumps while a head lives: it is the wall clock read once, carried on by the
monotonic clock, and never before the newest event of the log. A wall clock that is set back or forward by an hour
therefore neither ends jobs nor loses nodes.
"""

from __future__ import annotations

import time


class Clock:
    """Nanoseconds since 1970, UTC, strictly steady."""

    def __init__(self, not_before_ns: int = 0) -> None:
        self._offset_ns = max(time.time_ns(), not_before_ns) - time.monotonic_ns()

    def now_ns(self) -> int:
        return time.monotonic_ns() + self._offset_ns
