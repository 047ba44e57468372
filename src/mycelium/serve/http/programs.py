"""Program jobs at the door: their containers are looked at before they are accepted, in a throw-away process.

An accepted one gets its working directory: a tree of the container and the inputs, so that everything behind the door
treats it as any other job.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import tempfile
from pathlib import Path

import msgspec
from fastapi import Request
from msgspec.structs import replace

from mycelium.base.errors import KINDS, Conflict, Exhausted, Refused
from mycelium.base.ids import Digest
from mycelium.base.limits import (
    CONTAINER_BYTES_MAX,
    PROGRAM_CHECK_S,
    PROGRAM_CHECKS_MAX,
    PROGRAM_CHECKS_WAITING_MAX,
)
from mycelium.base.units import format_size
from mycelium.jobs.model import Request as JobRequest
from mycelium.jobs.model import Sandbox
from mycelium.jobs.program import INPUT_FILE, PROGRAM_FILE
from mycelium.polymer.container.names import CERTIFICATE, REVOKED
from mycelium.store.objects import Objects
from mycelium.store.tree import Kind, TreeEntry, encode_tree, tree_of


class Checks:
    """How many checks go on and wait; and where the site's authority is kept, if it has one."""

    def __init__(self, authority: Path | None = None) -> None:
        self.authority = authority
        self.turns = asyncio.Semaphore(PROGRAM_CHECKS_MAX)
        self.waiting = 0


async def admit_all(request: Request, requests: tuple[JobRequest, ...]) -> tuple[JobRequest, ...]:
    """The requests, those of programs with their directories. Errors: `Refused`, `Denied`, `Conflict`, `Exhausted`."""
    if all(wanted.program is None for wanted in requests):
        return requests
    return tuple([await _admit(request, wanted) for wanted in requests])


async def _admit(request: Request, wanted: JobRequest) -> JobRequest:
    if wanted.program is None or wanted.input is None:
        return wanted
    objects: Objects = request.app.state.objects
    checks: Checks = request.app.state.checks
    missing = objects.missing([wanted.program, wanted.input])
    if missing:
        raise Conflict(f"the object {missing[0][:12]}… is not here", hint="send it to /objects first")
    sizes = [objects.size(wanted.program), objects.size(wanted.input)]
    if max(sizes) > CONTAINER_BYTES_MAX:
        most = format_size(CONTAINER_BYTES_MAX)
        raise Refused(f"a program and its inputs have {format_size(max(sizes))}; at most {most} each")
    if checks.waiting >= PROGRAM_CHECKS_WAITING_MAX:
        raise Exhausted(f"{checks.waiting} programs wait to be checked", hint="try again in a moment")
    checks.waiting += 1
    try:
        async with checks.turns:
            await _check(checks, objects, wanted.program, wanted.input, naked=wanted.sandbox is Sandbox.NONE)
    finally:
        checks.waiting -= 1
    files = zip((INPUT_FILE, PROGRAM_FILE), (wanted.input, wanted.program), reversed(sizes), strict=True)
    tree = tree_of(TreeEntry(name, Kind.FILE, size, digest=digest) for name, digest, size in files)
    return replace(wanted, workdir=await asyncio.to_thread(objects.put, encode_tree(tree)))


async def _check(checks: Checks, objects: Objects, program: Digest, given: Digest, *, naked: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="myc-check-") as place:
        paths = [Path(place) / PROGRAM_FILE, Path(place) / INPUT_FILE]
        for path, digest in zip(paths, (program, given), strict=True):
            await asyncio.to_thread(_copy, objects, digest, path)
        words = [*map(str, paths), *(["--naked"] if naked else [])]
        for option, name in (("--ca", CERTIFICATE), ("--crl", REVOKED)):
            if checks.authority is not None and (checks.authority / name).exists():
                words += [option, str(checks.authority / name)]
        _judge(await _looked(words))


def _copy(objects: Objects, digest: Digest, path: Path) -> None:
    with contextlib.closing(objects.open(digest)) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)


async def _looked(words: list[str]) -> bytes:
    """What the throw-away process prints; nothing when it did not come to an end in time."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "mycelium.engine.program.check", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd="/",
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), PROGRAM_CHECK_S)
    except TimeoutError:
        return b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return said if process.returncode == 0 else b""


def _judge(said: bytes) -> None:
    try:
        answer = msgspec.json.decode(said, type=dict)
    except msgspec.DecodeError:
        raise Refused(f"the program could not be looked at within {PROGRAM_CHECK_S} s and bounded memory") from None
    error = answer.get("error")
    if error is not None:
        raise KINDS[error["kind"]](error["message"], hint=error["hint"])
