"""How long events stay in the log before they live in files alone: pure decisions.

Nothing is ever dropped that was not exported before, and nothing that a start may need; see `seam.Log.prune`.
Never: reads a clock, opens a file, or drops anything.
"""

from __future__ import annotations

import re

from msgspec import Struct

from mycelium.base.errors import Refused
from mycelium.base.limits import LOG_EVENTS_MAX, LOG_FILE_EVENTS, LOG_KEEP_S
from mycelium.base.units import DAY_S, S_NS

FOR_EVER = "forever"
DAYS_MAX = 36_500


class Keep(Struct, frozen=True):
    """Events stay for `age_ns`, and never more than `events_max` of them; None is no bound."""

    age_ns: int | None = LOG_KEEP_S * S_NS
    events_max: int | None = LOG_EVENTS_MAX


def parse_keep(text: str) -> Keep:
    """Of `30`, which are days, or `forever`. Errors: Refused."""
    if text == FOR_EVER:
        return Keep(None, None)
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > DAYS_MAX:
        raise Refused(
            f"log_keep is {text[:40]!r}; it must be 0 to {DAYS_MAX} days, or {FOR_EVER!r}",
            hint="events older than that leave the log for files in the site's home",
        )
    return Keep(int(text) * DAY_S * S_NS)


class Stock(Struct, frozen=True):
    """What a log has: it ends with event `last_seq`, and events up to `prunable_seq` are not needed by a start."""

    pruned_seq: int
    last_seq: int
    prunable_seq: int


def surplus_seq(stock: Stock, keep: Keep, old_seq: int) -> int:
    """The last event that should go; `old_seq` is the last one that is older than `keep` says."""
    crowded = stock.last_seq - keep.events_max if keep.events_max is not None else 0
    return max(stock.pruned_seq, old_seq if keep.age_ns is not None else 0, crowded)


def next_piece(stock: Stock, upto_seq: int, *, whole: bool) -> int:
    """Where the next file should end on the way to `upto_seq`; 0 when none is due.

    `whole`: only full files, so that a quiet site does not make one for every few events.
    """
    end = min(upto_seq, stock.prunable_seq, stock.pruned_seq + LOG_FILE_EVENTS)
    least = LOG_FILE_EVENTS if whole else 1
    return end if end - stock.pruned_seq >= least else 0


def file_name(first_seq: int, last_seq: int, copy: int = 1) -> str:
    """Of the file that holds these events; a further `copy` where the name is taken by something else."""
    again = f"-{copy}" if copy > 1 else ""
    return f"events-{first_seq:012}-{last_seq:012}{again}.jsonl.gz"
