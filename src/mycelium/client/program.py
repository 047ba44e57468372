"""Runs a Polymer program on a site: sends it with its inputs, follows it, and gives its result or raises its error.

Ctrl-C cancels the job. Never: unpickles anything that a site sends.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from mycelium.base.errors import Conflict, Exhausted, Unavailable
from mycelium.base.limits import CONTAINER_BYTES_MAX
from mycelium.client import settings
from mycelium.client.follow import LogReader
from mycelium.client.remote import Remote
from mycelium.client.site import Client
from mycelium.jobs.program import RESULT_FILE
from mycelium.programs.report import Failure, heard, raised

if TYPE_CHECKING:
    from mycelium.polymer.program.graph import Module

LINE_BYTES_MAX = 1 << 20
Document = dict[str, Any]
Tell = Callable[[int, int], None]


def run_module(module: Module, inputs: dict[str, Any], url: str, token: str, asked: Document) -> Any:
    """The result of a program of this process. `asked` are keys of a job, such as cpus and nodes."""
    from mycelium.polymer.container import pmr
    from mycelium.polymer.forms.seal import seal
    from mycelium.polymer.program.inputs import check_inputs

    check_inputs(module, inputs)
    place = settings.place(url, token)
    named = {"name": module.main.name[:128], **asked}
    return run_container(Client(place.url, place.token), pmr.pack(seal(module)), inputs, named)


def run_container(client: Client, program: bytes, inputs: dict[str, Any], asked: Document) -> Any:
    """The result of a compiled program. Errors: the site's; the program's own, as it raised it."""
    from mycelium.polymer.container import values

    job = submit(client, program, values.pack(inputs), asked)
    try:
        return result(client, job)
    except KeyboardInterrupt:
        Client(client.url, client.token).post(f"/jobs/{job['id']}/cancel")
        raise


def submit(client: Client, program: bytes, inputs: bytes, asked: Document) -> Document:
    """The job, accepted by the site."""
    digests = send(client, [program, inputs])
    document = {**asked, "program": digests[0], "input": digests[1]}
    return client.post("/jobs", {"jobs": [document]}, key=secrets.token_hex(16))["jobs"][0]


def send(client: Client, objects: list[bytes]) -> list[str]:
    """Their digests; the site has them when this returns."""
    from blake3 import blake3

    digests = [blake3(data).hexdigest() for data in objects]
    missing = client.post("/objects/missing", {"digests": digests}, key="again")["missing"]
    for digest, data in zip(digests, objects, strict=True):
        if digest in missing:
            client.send("PUT", f"/objects/{digest}", data, {"Content-Type": "application/octet-stream"}, again=True)
    return digests


def result(client: Client, job: Document, tell: Tell | None = None) -> Any:
    """Follow the job to its end; what it computed. Errors: what it raised.

    `tell` hears now and then how many calls are done, of how many that are known of; else a terminal shows it.
    """
    listener = Listener(job["name"], tell)
    rank = {"rank": 0} if job["request"]["nodes"] > 1 else {}
    reader = _ProgramReader(client, job["id"], listener, **rank)
    try:
        final = reader.to_the_end()
    finally:
        listener.close()
    if final["state"] == "done":
        return fetch(client, job["id"])
    if listener.failure is not None and final["state"] == "failed":
        raise raised(listener.failure)
    said = final["message"] or f"exited with {final['exit_code']}"
    hint = f"`myc story {job['id']}` tells what happened to it"
    if final["state"] == "cancelled":
        raise Conflict(f"{job['id']} was cancelled", hint=hint)
    if "memory" in said:
        raise Exhausted(f"{job['id']} failed: {said}", hint="ask for more with --memory")
    raise Unavailable(f"{job['id']} failed: {said}", hint=hint)


def fetch(client: Client, job: str) -> Any:
    """What a program job that is done left."""
    from mycelium.polymer.container import values
    from mycelium.store.tree import read_tree

    found = {one["path"]: one["tree"] for one in client.get(f"/jobs/{job}/outputs")["outputs"]}
    tree = found.get("", found.get("rank-0"))
    source = Remote(client)
    files = read_tree(cast("Any", source), tree).entries if tree else ()
    for entry in files:
        if entry.path == RESULT_FILE and entry.digest is not None:
            return values.read(source.read(entry.digest, CONTAINER_BYTES_MAX))
    raise Unavailable(f"{job} is done and left no result", hint=f"`myc logs {job}` shows what it printed")


class _ProgramReader(LogReader):
    """What the job prints goes to a listener, and of a gang only what rank 0 prints."""

    def __init__(self, client: Client, job: str, listener: Listener, **which: Any) -> None:
        super().__init__(client, job, follow=True, all_to_stderr=True, **which)
        self._stderr = cast("Any", listener)


class Listener:
    """Takes the job's stderr: progress and failure are for us, the rest is the program's own and is passed on."""

    def __init__(self, name: str, tell: Tell | None = None) -> None:
        self.name = name
        self._tell = tell or self._show
        self.failure: Failure | None = None
        self._rest = b""
        self._bar: Any = None
        self._task: Any = None

    def write(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES_MAX:  # no word for us is as long: a program that writes without an end
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._line(line)

    def _line(self, line: bytes) -> None:
        told = heard(line.decode(errors="replace"))
        if isinstance(told, Failure):
            self.failure = told  # the traceback that follows it travels in it
        elif told is not None:
            self._tell(*told)
        elif self.failure is None:
            sys.stderr.buffer.write(line + b"\n")

    def flush(self) -> None:
        sys.stderr.buffer.flush()

    def _show(self, done: int, total: int) -> None:
        if not sys.stderr.isatty():
            return
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self.name, total=None)
        self._bar.update(self._task, completed=done, total=total)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
