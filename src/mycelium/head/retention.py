"""Keeps the log within its bounds: what is old goes to a file that verifies, and only then out of the database.

Piece by piece, in a thread, with pauses: no turn of the head waits for more than one small transaction. What a kill
leaves unfinished is finished by the next head; events are in the log, in a file, or in both.
Never: drops an event that no file holds, or one that a start may need.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from mycelium.base.errors import Conflict, Problem, Unavailable
from mycelium.base.units import HOUR_S
from mycelium.head.core import Core
from mycelium.log import Log
from mycelium.log.retention import Keep, Stock, file_name, next_piece, surplus_seq
from mycelium.log.whole import WholeLog

LOOK_S = 300.0  # between two looks: a busy site makes some hundred events in it
AGAIN_S = HOUR_S  # after a failure, which is mostly a full disk
COPIES_MAX = 8  # names tried where a spoiled or foreign file has the one that is wanted

_said = logging.getLogger("mycelium.head")


class Pruned(Struct, frozen=True):
    """What one step of pruning did. `left`: events that should still go."""

    events: int = 0
    left: int = 0
    file: str = ""


class Pruning(Struct, frozen=True):
    """What a pruning would do: the events `first_seq` to `upto_seq` would go."""

    first_seq: int
    upto_seq: int
    kept: int
    folder: str

    @property
    def events(self) -> int:
        return max(0, self.upto_seq - self.first_seq + 1)


class LogKeeper:
    """One at a time: who asks for a pruning while another is at work waits for its present piece."""

    def __init__(self, core: Core, now_ns: Callable[[], int], folder: Path, keep: Keep) -> None:
        self.core = core
        self.keep = keep
        self.folder = folder
        self.whole = WholeLog(core.log, folder)
        self._now_ns = now_ns
        self._busy = asyncio.Lock()

    async def keep_for_ever(self) -> None:
        """Look now and then whether something is due, until cancelled."""
        await asyncio.to_thread(self._clear_up)
        while True:
            pause_s = LOOK_S
            try:
                await self.look()
            except Problem as problem:
                _said.warning("the log was not pruned: %s", problem)
                pause_s = AGAIN_S
            await asyncio.sleep(pause_s)

    async def look(self) -> int:
        """Prune what is due by the site's own rule; how many events went."""
        went = 0
        while True:
            async with self._busy:
                upto_seq = await asyncio.to_thread(self._due_seq)
                piece = await asyncio.to_thread(self._prune_piece, upto_seq, whole=True)
            went += piece.events
            if not piece.events:
                return went
            _said.info("%d events of the log went to %s", piece.events, piece.file)

    async def plan(self, before_ns: int) -> Pruning:
        """What `prune` would do with the events before a moment."""
        upto_seq = await asyncio.to_thread(self.core.log.seq_before, before_ns)
        log = self.core.log
        return Pruning(log.first_seq, upto_seq, log.last_seq - upto_seq, str(self.folder))

    async def prune(self, before_ns: int) -> Pruned:
        """Prune a piece of the events before a moment: to be called until nothing is left.

        Errors: Unavailable when the file or the log cannot be written; then nothing was dropped.
        """
        async with self._busy:
            upto_seq = await asyncio.to_thread(self.core.log.seq_before, before_ns)
            await self._snapshot_behind(upto_seq)
            return await asyncio.to_thread(self._prune_piece, upto_seq, whole=False)

    async def _snapshot_behind(self, seq: int) -> None:
        """A start needs every event after the older of the two snapshots kept: so both are made anew."""
        if await asyncio.to_thread(self.core.log.prunable_seq) >= seq:
            return
        snapshot = self.core.take_snapshot()
        for _ in range(2):
            await asyncio.to_thread(self.core.log.save_snapshot, snapshot.seq, snapshot.version, snapshot.data)

    def _due_seq(self) -> int:
        old_seq = 0
        if self.keep.age_ns is not None:
            old_seq = self.core.log.seq_before(max(0, self._now_ns() - self.keep.age_ns))
        return surplus_seq(_stock(self.core.log, 0), self.keep, old_seq)

    def _prune_piece(self, upto_seq: int, *, whole: bool) -> Pruned:
        log = self.core.log
        if next_piece(_stock(log, upto_seq), upto_seq, whole=whole):  # before snapshots are read for it
            end = next_piece(_stock(log, log.prunable_seq()), upto_seq, whole=whole)
        else:
            end = 0
        if not end:
            log.prune(log.pruned.seq)  # finishes what a killed head has left
            return Pruned(left=max(0, upto_seq - log.pruned.seq))
        events = end - log.pruned.seq
        file = self._export(end)
        log.prune(end)
        return Pruned(events, upto_seq - end, str(file))

    def _export(self, end: int) -> Path:
        log = self.core.log
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"cannot make {self.folder}: {(error.strerror or str(error)).lower()}") from None
        for copy in range(1, COPIES_MAX):
            path = self.folder / file_name(log.first_seq, end, copy)
            with suppress(Conflict):
                log.export(path, end)
                return path
        path = self.folder / file_name(log.first_seq, end, COPIES_MAX)
        log.export(path, end)
        return path

    def _clear_up(self) -> None:
        """What a killed head was writing is no file yet."""
        for part in self.folder.glob(".*.part"):
            with suppress(OSError):
                part.unlink()


def _stock(log: Log, prunable_seq: int) -> Stock:
    return Stock(log.pruned.seq, log.last_seq, prunable_seq)
