"""Follow a job until it has ended: what it prints, or for an array how far it is.

The job does not hang on this process: whatever happens here, it goes on. Ctrl-C once detaches, twice cancels.
"""

from __future__ import annotations

import base64
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from mycelium.base.errors import Unavailable
from mycelium.base.limits import LOG_BYTES_MAX
from mycelium.base.units import format_size
from mycelium.client import show
from mycelium.client.site import Client, connect

Document = dict[str, Any]

ENDED = ("done", "failed", "cancelled")
WAITING = ("blocked", "queued")
PLACED = "placed"  # on its node, where its directory is being made
AWAY_S = 300.0  # how long a site may be away before following it is given up
SECOND_CTRL_C_S = 2.0
PATIENCE_S = 0.7  # a job that waits longer than this gets a line that says why
POLL_S = 0.2
PLAIN_EVERY_S = 5.0  # where there is no terminal, progress is a line now and then
INTERRUPTED = 130
FAILED_SHOWN, FAILED_SOUGHT = 8, 10_000


def to_the_end(
    client: Client, job: Document, *, all_to_stderr: bool = False, files: int = 0
) -> tuple[int, Document | None]:
    """Follow `job` until it has ended; the exit code for this process, and the job's last state.

    None for the state: the person detached before the end. `all_to_stderr` keeps stdout free for a document.
    `files` is how many the job's directory holds, where that is known.
    """
    name = str(job["id"])
    try:
        if job["request"]["array"]:
            final = watch_array(client, name)
        else:
            final = stream(client, name, all_to_stderr=all_to_stderr, files=files)
    except KeyboardInterrupt:
        return _interrupted(client, name)
    except BrokenPipeError:
        show.line(f"nobody reads the output of {name} any more; it goes on. `myc cancel {name}` ends it")
        raise
    _say_end(client, final)
    return exit_code(final), final


def exit_code(job: Document) -> int:
    """0 only if every task exited with 0."""
    if job["state"] == "done":
        return 0
    return int(job["exit_code"] or 1)


def _say_end(client: Client, job: Document) -> None:
    name = job["id"]
    message = show.clean(job.get("message") or "")
    if job["state"] == "cancelled":
        show.line(f"{name} was cancelled" + (f": {message}" if message else ""))
    elif job["request"]["array"]:
        _say_array_end(client, job)
    elif job["state"] == "done" and message:
        show.line(f"{name} is done: {message}")
    elif job["state"] == "failed" and not message.startswith("exited with"):  # the exit code says that already
        show.line(f"{name} failed: {message}")


def _say_array_end(client: Client, job: Document) -> None:
    name, tasks = job["id"], job["counts"]
    took = show.between(job["started"], job["ended"])
    show.line(f"{name}: {tasks['done']:,} of {show.counted(tasks['size'], 'task')} done in {took}")
    if tasks["failed"]:
        listed = client.get(f"/jobs/{name}", tasks=FAILED_SOUGHT)["tasks"]
        failed = [task["id"] for task in listed if task["state"] == "failed"]
        named = ", ".join(failed[:FAILED_SHOWN]) + (", …" if len(failed) > FAILED_SHOWN else "")
        show.line(f"  {tasks['failed']:,} failed: {named}")
        show.line(f"  `myc logs {(failed or [name])[0]}` shows what it printed")


# One task: its output.


def stream(client: Client, job: str, *, all_to_stderr: bool = False, only: str = "", files: int = 0) -> Document:
    """Pass on what the job prints, stdout and stderr apart, until it has ended. `only`: just this stream."""
    with _Waiting(client, job, files):
        reader = LogReader(client, job, follow=True, only=only, all_to_stderr=all_to_stderr)
        return reader.to_the_end()


class LogReader:
    """Reads a job's log from where it last was, over as many connections as it takes."""

    def __init__(
        self, client: Client, job: str, *, follow: bool, only: str = "", all_to_stderr: bool = False, **which: Any
    ) -> None:
        self._client = client
        self._path = f"/jobs/{job}/logs"
        self._query = {"follow": follow, "stream": only or None, **which}
        self._shown: dict[tuple[Any, ...], int] = {}  # up to where each step's streams have been passed on
        self._attempts: dict[str, int] = {}
        self._stdout = sys.stderr.buffer if all_to_stderr else sys.stdout.buffer
        self._stderr = sys.stdout.buffer if only == "stderr" else sys.stderr.buffer

    def to_the_end(self) -> Document:
        """The job as it was when its log ended. Errors: `Unavailable` when the site stays away."""
        away_since = 0.0
        while True:
            try:
                for event in self._client.stream(self._path, **self._query):
                    away_since = 0.0
                    if event.kind == "end":
                        return event.data
                    if event.kind in ("stdout", "stderr"):
                        self._write(event.kind, event.data)
                    elif event.kind == "problem":
                        show.line(f"a part of the log cannot be shown: {show.clean(event.data['error']['message'])}")
                reason = None  # the site ended the stream without an end: it is going down, or it was asked to be brief
            except Unavailable as problem:
                reason = problem
            now = time.monotonic()
            if not away_since:
                away_since = now
            elif now - away_since > AWAY_S:
                raise reason or Unavailable("the site ends the stream again and again")
            elif reason is not None and 1.0 < now - away_since < 1.6:
                show.note("the site does not answer; the job goes on. Trying again …")
            time.sleep(0.5)

    def _write(self, kind: str, piece: Document) -> None:
        """A new connection begins at the start again, and what was passed on is left out."""
        data = base64.b64decode(piece["data"])
        task, attempt = str(piece["task"]), int(piece["attempt"])
        if 0 < self._attempts.get(task, 0) < attempt:
            show.note(f"{task} was run again: what follows is attempt {attempt}")
        self._attempts[task] = attempt
        step = (piece["task"], piece["attempt"], piece["rank"], kind)
        known, offset = self._shown.get(step, 0), int(piece["offset"])
        if offset > known:
            show.line(missing(task, kind, offset - known))
        target = self._stdout if kind == "stdout" else self._stderr
        target.write(data[max(0, known - offset) :])
        target.flush()
        self._shown[step] = max(known, offset + len(data))


def missing(task: str, stream: str, count_bytes: int) -> str:
    """What is said where a part of a log is gone."""
    newest = format_size(LOG_BYTES_MAX)
    return (
        f"myc: {format_size(count_bytes)} of the {stream} of {task} is missing here: the site keeps the newest {newest}"
    )


class _Waiting:
    """Says, beside the output, why a job does not start at once."""

    def __init__(self, client: Client, job: str, files: int = 0) -> None:
        self._files = files
        self._client = Client(client.url, client.token)  # a connection of its own: the other one carries the log
        self._job = job
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def _watch(self) -> None:
        said = ""
        pause_s = PATIENCE_S
        while not self._over.wait(pause_s):
            pause_s = 1.0
            try:
                job = self._client.get(f"/jobs/{self._job}")
            except Exception:  # the log's own connection will say what is wrong
                return
            now = waits_for(job, self._files)
            if not now:
                return
            if now != said and not self._over.is_set():
                if not said or job["state"] == PLACED or sys.stderr.isatty():
                    show.note(f"{self._job} {now}")
                said = now


def waits_for(job: Document, files: int) -> str:
    """What a job that has not started waits for; empty for one that has."""
    if job["state"] in WAITING:
        return f"waits: {show.clean(job.get('reason') or 'it is queued')}"
    if job["state"] == PLACED:
        what = show.counted(files, "file") if files else "what it starts with"
        return f"is placed: preparing {what} on {', '.join(job['nodes'])}"
    return ""


# An array: how far it is.


def watch_array(client: Client, job: str) -> Document:
    """Show progress on stderr until the array has ended."""
    return _watch_lively(client, job) if sys.stderr.isatty() else _watch_plainly(client, job)


def _watch_lively(client: Client, job: str) -> Document:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[now]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(job, total=None, now="")
        while True:
            found = client.get(f"/jobs/{job}", tasks=0)
            ended, now = counts(found)
            progress.update(bar, total=found["counts"]["size"], completed=ended, now=now)
            if found["state"] in ENDED:
                return found
            time.sleep(POLL_S)


def _watch_plainly(client: Client, job: str) -> Document:
    said_at = time.monotonic()
    while True:
        found = client.get(f"/jobs/{job}", tasks=0)
        if found["state"] in ENDED:
            return found
        if time.monotonic() - said_at >= PLAIN_EVERY_S:
            said_at = time.monotonic()
            ended, now = counts(found)
            show.line(f"{job}: {ended}/{found['counts']['size']} {now}")
        time.sleep(POLL_S)


def counts(job: Document) -> tuple[int, str]:
    """How many tasks have ended, and what the others do."""
    tasks = job["counts"]
    now = [f"{tasks['running']} running"] if tasks["running"] else []
    if tasks["failed"]:
        now.append(f"{tasks['failed']} failed")
    ended = tasks["done"] + tasks["failed"] + tasks["cancelled"]
    if job.get("reason") and not ended and not tasks["running"]:  # later, to wait for a moment is what arrays do
        now.append(f"waits: {show.clean(job['reason'])}")
    return ended, ", ".join(now)


# Ctrl-C.


def _interrupted(client: Client, job: str) -> tuple[int, Document | None]:
    try:
        show.line(f"\ndetached: {job} goes on. Ctrl-C again cancels it.")
        show.line(f"  `myc attach {job}` follows it, `myc cancel {job}` ends it")
        time.sleep(SECOND_CTRL_C_S)
        return INTERRUPTED, None
    except KeyboardInterrupt:
        show.line(f"cancelling {job}: it has a moment to end by itself")
    fresh = connect()  # the interrupt may have left the other connection in the middle of an answer
    fresh.post(f"/jobs/{job}/cancel")
    final = wait(fresh, job, lambda found: found["state"] in ENDED)
    _say_end(fresh, final)
    return exit_code(final), final


def wait(client: Client, job: str, enough: Callable[[Document], bool]) -> Document:
    while True:
        found = client.get(f"/jobs/{job}", tasks=0)
        if enough(found):
            return found
        time.sleep(POLL_S)
