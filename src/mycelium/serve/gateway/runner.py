"""Works batches off: every line once, behind whoever waits for an answer, whatever dies on the way.

A line's result is kept only when the head has committed it; until then it is as if the line had not been run. So a
gateway or a head that dies costs the lines that were under way, and no line is ever written twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator

import msgspec

from mycelium.base.errors import Conflict, Missing, Problem, Unavailable
from mycelium.base.limits import REQUEST_TIME_S
from mycelium.inference import lines
from mycelium.inference.commands import CheckBatch, ClaimBatch, CommitLines, EndBatch
from mycelium.inference.lines import BatchLine
from mycelium.inference.model import BATCH_ENDED, Batch, BatchState, Mistake, StoredFile, Used
from mycelium.inference.spans import count, spans_of, union
from mycelium.serve.gateway.completions import Completions
from mycelium.serve.gateway.files import read_parts
from mycelium.serve.gateway.fleet import Fleet
from mycelium.serve.gateway.link import GatewayLink
from mycelium.serve.gateway.table import BatchRow, CallerRow, GatewayTable
from mycelium.serve.http1.errors import ApiError
from mycelium.store.objects import Objects

AHEAD = 2  # lines that line up beyond the places there are, so that none stays free while a result is kept
COMMIT_LINES, COMMIT_BYTES, COMMIT_S = 500, 4 << 20, 0.5
RETRY_S = 0.5
LINE_TRIES_MAX = 8  # of a line to which the model itself answers with a failure: over two minutes of patience
LINE_RETRY_S_MAX = 60.0
log = logging.getLogger("mycelium.gateway")


class Result(msgspec.Struct, frozen=True):
    number: int
    failed: bool
    text: bytes
    used: Used = Used()
    unrun: bool = False


class Runner:
    """All batches of this gateway."""

    def __init__(self, boot: str, link: GatewayLink, objects: Objects, fleet: Fleet, completions: Completions) -> None:
        self.boot = boot
        self.link = link
        self.objects = objects
        self.fleet = fleet
        self.completions = completions
        self._rows: dict[str, BatchRow] = {}
        self._callers: dict[str, CallerRow] = {}
        self._works: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()

    def told(self, table: GatewayTable) -> None:
        self._rows = {row.id: row for row in table.batches}
        self._callers = {row.key: row for row in table.callers if row.key}
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            for name in self._rows.keys() - self._works.keys():
                self._works[name] = asyncio.create_task(self._keep(name))
            for name in [name for name, work in self._works.items() if work.done() and name not in self._rows]:
                del self._works[name]
            self._changed.clear()
            await self._changed.wait()

    async def _keep(self, name: str) -> None:
        """Work on one batch until it has ended, whatever goes wrong meanwhile."""
        while name in self._rows:
            try:
                await BatchWork(self, self._rows[name]).run()
            except (Conflict, Missing):
                await asyncio.sleep(RETRY_S)  # it has ended, or the table will say so in a moment
            except Problem as problem:
                log.warning("%s: %s", name, problem)
                await asyncio.sleep(RETRY_S)
            except Exception:  # the top of a batch
                log.exception("%s", name)
                await asyncio.sleep(RETRY_S * 4)

    def row(self, name: str) -> BatchRow | None:
        return self._rows.get(name)

    def caller(self, row: BatchRow) -> CallerRow:
        """Who asked; a key that was revoked meanwhile had the right when it did."""
        return self._callers.get(row.key) or CallerRow("", row.key, row.account)


class BatchWork:
    """One batch, from where it stands."""

    def __init__(self, runner: Runner, row: BatchRow) -> None:
        self._runner = runner
        self._row = row
        self._line = row.key or row.account
        self._results: list[Result] = []
        self._kept_s = time.monotonic()
        self._running: set[asyncio.Task[None]] = set()
        self._moved = asyncio.Event()
        self._file: StoredFile | None = None
        self._model = ""  # that the lines ask

    async def run(self) -> None:
        runner, row = self._runner, self._row
        await runner.link.do_surely(ClaimBatch(row.id, runner.boot))
        batch = await self._read()
        if batch.state in BATCH_ENDED:
            return
        if not batch.total and not await self._check(batch):
            return
        try:
            await self._work(await self._read())
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _read(self) -> Batch:
        row = self._row
        while True:
            try:
                found = await self._runner.link.get(f"/gateway/batches?account={row.account}&batch={row.id}")
                if self._file is None:
                    path = f"/gateway/files?account={row.account}&file={row.input_file}"
                    self._file = msgspec.convert(await self._runner.link.get(path), StoredFile)
                return msgspec.convert(found, Batch)
            except Unavailable:
                await asyncio.sleep(RETRY_S)

    async def _check(self, batch: Batch) -> bool:
        """Look at the whole file. False when it is so bad that the batch has failed."""
        raw = [line async for line in self._lines()]
        checked = await asyncio.to_thread(lines.check, raw, batch.endpoint)
        mistakes = checked.mistakes
        if not mistakes:
            try:
                caller = self._runner.caller(self._row)
                self._runner.completions.admit_model(caller, self._row.endpoint, checked.model)
            except ApiError as error:
                mistakes = (Mistake(error.code or "invalid_request", 1, error.message, "body.model"),)
        await self._runner.link.do_surely(
            CheckBatch(batch.id, self._runner.boot, checked.total, mistakes, checked.model)
        )
        return not mistakes

    async def _lines(self) -> AsyncIterator[bytes]:
        """The lines that hold something, in order."""
        assert self._file is not None
        rest = b""
        async for piece in read_parts(self._runner.objects, self._file.parts):
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                if line.strip():
                    yield line
        if rest.strip():
            yield rest

    async def _work(self, batch: Batch) -> None:
        done = batch.done
        known = iter(done)
        skip = next(known, None)
        number = -1
        keeping = asyncio.create_task(self._keep_for_ever())
        try:
            async for raw in self._lines():
                number += 1
                while skip is not None and number >= skip[1]:
                    skip = next(known, None)
                if skip is not None and skip[0] <= number:
                    continue
                line = lines.read(raw, batch.endpoint)
                assert isinstance(line, BatchLine), "the file was found good, and objects do not change"
                self._model = str(line.body["model"])
                await self._wait_place(keeping)
                if self._over():
                    self._results.append(self._unrun(number, line))
                    continue
                task = asyncio.create_task(self._answer(number, line))
                self._running.add(task)
                task.add_done_callback(self._ended)
            while self._running:
                await self._wait_moved(keeping)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        while self._results:
            await self._commit()
        await self._runner.link.do_surely(EndBatch(batch.id, self._runner.boot))

    async def _wait_place(self, keeping: asyncio.Task[None]) -> None:
        while len(self._running) + len(self._results) // COMMIT_LINES >= self._places() and not self._over():
            await self._wait_moved(keeping)

    async def _wait_moved(self, keeping: asyncio.Task[None]) -> None:
        """Something ended, or a second has passed. Errors: whatever ended the keeping of results."""
        if keeping.done():
            keeping.result()
        if self._over():
            for task in self._running:
                task.cancel()
        self._moved.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.25):
                await self._moved.wait()

    def _places(self) -> int:
        members = [member for member in self._runner.fleet.members.values() if member.deployment == self._model]
        return sum(member.parallel for member in members if member.ready) + AHEAD

    def _over(self) -> bool:
        """Whether no further line is to be run: the batch was cancelled, has expired, or is not there any more."""
        row = self._runner.row(self._row.id)
        return row is None or row.state is BatchState.CANCELLING or time.time_ns() >= row.expires_ns

    def _unrun(self, number: int, line: BatchLine) -> Result:
        row = self._runner.row(self._row.id)
        cancelled = row is None or row.state is BatchState.CANCELLING
        code = "batch_cancelled" if cancelled else "batch_expired"
        said = "The batch was cancelled." if cancelled else "The completion window expired before this request was run."
        return Result(number, True, lines.unrun(_id("batch_req"), line.custom_id, code, said), unrun=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._moved.set()

    async def _answer(self, number: int, line: BatchLine) -> None:
        """Run one line until it has an answer that can be kept; a replica that dies costs another try."""
        runner, row, failures = self._runner, self._row, 0
        try:
            while True:
                try:
                    asked, deployment = runner.completions.admit(runner.caller(row), row.endpoint, line.body)
                    async with asyncio.timeout(REQUEST_TIME_S):
                        answer = await runner.completions.answer(self._line, deployment, asked, batch=True)
                    text = lines.result(_id("batch_req"), line.custom_id, 200, _id("req"), answer.body)
                    self._results.append(Result(number, False, text, answer.used))
                    return
                except TimeoutError:
                    continue  # it may have waited for a place all that time
                except ApiError as error:
                    failures += error.answered
                    if error.status in (429, 502, 503) and failures < LINE_TRIES_MAX:
                        await asyncio.sleep(min(RETRY_S * 2**failures, LINE_RETRY_S_MAX))
                        continue
                    text = lines.result(_id("batch_req"), line.custom_id, error.status, _id("req"), error.body())
                    self._results.append(Result(number, True, text, Used(1, 1)))
                    return
        except asyncio.CancelledError:
            if self._over():
                self._results.append(self._unrun(number, line))
            raise

    # Keeping results.

    async def _keep_for_ever(self) -> None:
        """Commit what there is, often enough that little is lost and seldom enough that the log stays small."""
        while True:
            await asyncio.sleep(COMMIT_S / 5)
            due = time.monotonic() - self._kept_s >= COMMIT_S
            if self._results and (due or len(self._results) >= COMMIT_LINES):
                await self._commit()

    async def _commit(self) -> None:
        """One commit of at most `COMMIT_LINES`. Errors: `Conflict` when another gateway has the batch."""
        taken, size_bytes = 0, 0
        for result in self._results[:COMMIT_LINES]:
            taken, size_bytes = taken + 1, size_bytes + len(result.text)
            if size_bytes >= COMMIT_BYTES:
                break
        results = self._results[:taken]
        outputs = b"".join(result.text for result in results if not result.failed)
        errors = b"".join(result.text for result in results if result.failed)
        objects = self._runner.objects
        command = CommitLines(
            self._row.id,
            self._runner.boot,
            spans_of(result.number for result in results),
            sum(1 for result in results if not result.failed),
            sum(1 for result in results if result.failed),
            await asyncio.to_thread(objects.put, outputs) if outputs else None,
            await asyncio.to_thread(objects.put, errors) if errors else None,
            (len(outputs), len(errors)),
            sum((result.used for result in results), Used()),
            sum(1 for result in results if result.unrun),
        )
        try:
            await self._runner.link.do_surely(command)
        except Conflict:
            batch = await self._read()
            ours = batch.runner == self._runner.boot
            if not ours or count(union(batch.done, command.done)) != count(batch.done):
                raise
            # Committed before, and only the answer was lost: this runner puts each line into one commit only.
        del self._results[:taken]
        self._kept_s = time.monotonic()
        self._moved.set()


def _id(kind: str) -> str:
    return f"{kind}_{os.urandom(12).hex()}"
