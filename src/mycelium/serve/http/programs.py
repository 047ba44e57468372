"""Program jobs at the door: their containers are looked at before they are accepted, in a throw-away process.

An accepted one gets its working directory: a tree of the container and the inputs, so that everything behind the door
treats it as any other job.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from mycelium.base.errors import KINDS, Conflict, Exhausted, Problem, Refused
from mycelium.base.home import AuthorityFiles
from mycelium.base.ids import Digest
from mycelium.base.limits import (
    CONTAINER_BYTES_MAX,
    PAGES_BYTES_MAX,
    PAGES_JOBS_MAX,
    PAGES_MAX,
    PROGRAM_CHECK_S,
    PROGRAM_CHECKS_MAX,
    PROGRAM_CHECKS_WAITING_MAX,
)
from mycelium.base.units import format_size
from mycelium.head.steps import outputs_of
from mycelium.jobs.model import Job, Sandbox
from mycelium.jobs.model import Request as JobRequest
from mycelium.jobs.program import INPUT_FILE, KEPT, PAGE, PROGRAM_FILE
from mycelium.store.objects import Objects
from mycelium.store.tree import EntryKind, TreeEntry, encode_tree, read_tree, tree_of


class Checks:
    """How many checks go on and wait; and where the site's authority is kept, if it has one."""

    def __init__(self, authority: AuthorityFiles | None = None) -> None:
        self.authority = authority
        self.turns = asyncio.Semaphore(PROGRAM_CHECKS_MAX)
        self.waiting = 0


async def admit_all(
    objects: Objects, checks: Checks, requests: tuple[JobRequest, ...], earlier: Callable[[], Iterator[Job]]
) -> tuple[JobRequest, ...]:
    """The requests, those of programs with their directories. `earlier` are jobs of the same account, newest first.

    Errors: `Refused`, `Denied`, `Conflict`, `Exhausted`.
    """
    if all(wanted.program is None for wanted in requests):
        return requests
    return tuple([await _admit(objects, checks, wanted, earlier) for wanted in requests])


async def _admit(
    objects: Objects, checks: Checks, wanted: JobRequest, earlier: Callable[[], Iterator[Job]]
) -> JobRequest:
    if wanted.program is None or wanted.input is None:
        return wanted
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
            naked = wanted.sandbox is Sandbox.NONE
            kernels = await _check(checks, objects, wanted.program, wanted.input, naked=naked)
    finally:
        checks.waiting -= 1
    files = zip((INPUT_FILE, PROGRAM_FILE), (wanted.input, wanted.program), reversed(sizes), strict=True)
    entries = [TreeEntry(name, EntryKind.FILE, size, digest=digest) for name, digest, size in files]
    if kernels:
        trees = _left(earlier())
        entries += await asyncio.to_thread(pages, objects, kernels, trees)
    tree = tree_of(entries)
    return replace(wanted, workdir=await asyncio.to_thread(objects.put, encode_tree(tree)))


def _left(earlier: Iterator[Job]) -> list[Digest]:
    """The outputs of the newest program jobs that left any."""
    found = (tree for job in earlier if job.request.program is not None for _, tree in outputs_of(job))
    return list(itertools.islice(found, PAGES_JOBS_MAX))


def pages(objects: Objects, kernels: list[str], trees: list[Digest]) -> list[TreeEntry]:
    """The newest pages of kept results of these kernels, as files of a working directory.

    Only an account's own jobs are asked, because what a stranger's program left may say anything.
    """
    missing = dict.fromkeys(kernels, PAGES_MAX)
    seen: set[Digest] = set()
    found: list[TreeEntry] = []
    left_bytes = PAGES_BYTES_MAX
    for tree in trees:
        for entry in _entries(objects, tree):
            kernel = entry.path.removeprefix(f"{KEPT}/").removesuffix(PAGE)
            if entry.digest is None or not missing.get(kernel) or entry.digest in seen:
                continue
            left_bytes -= entry.size_bytes
            if left_bytes < 0:
                return _in_directory(found)
            seen.add(entry.digest)
            found.append(replace(entry, path=f"{KEPT}/{kernel}-{missing[kernel]}{PAGE}", executable=False))
            missing[kernel] -= 1
        if not any(missing.values()):
            break
    return _in_directory(found)


def _in_directory(found: list[TreeEntry]) -> list[TreeEntry]:
    return [TreeEntry(KEPT, EntryKind.DIR), *found] if found else []


def _entries(objects: Objects, tree: Digest) -> tuple[TreeEntry, ...]:
    try:
        entries = read_tree(objects, tree).entries
        here = [entry for entry in entries if entry.path.startswith(f"{KEPT}/") and entry.digest is not None]
        gone = set(objects.missing([entry.digest for entry in here if entry.digest is not None]))
    except Problem:  # outputs that are gone or harmed: their results are computed again
        return ()
    return tuple(entry for entry in here if entry.digest not in gone)


async def _check(checks: Checks, objects: Objects, program: Digest, given: Digest, *, naked: bool) -> list[str]:
    """The keys of the kernels whose results may be kept."""
    with tempfile.TemporaryDirectory(prefix="myc-check-") as place:
        paths = [Path(place) / PROGRAM_FILE, Path(place) / INPUT_FILE]
        for path, digest in zip(paths, (program, given), strict=True):
            await asyncio.to_thread(_copy, objects, digest, path)
        words = [*map(str, paths), *(["--naked"] if naked else [])]
        ca = checks.authority
        for option, path in (("--ca", ca.certificate), ("--crl", ca.revoked)) if ca is not None else ():
            if path.exists():
                words += [option, str(path)]
        return _judge(await _looked(words))


def _copy(objects: Objects, digest: Digest, path: Path) -> None:
    with contextlib.closing(objects.open(digest)) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)


async def _looked(words: list[str]) -> bytes:
    """What the throw-away process prints; nothing when it did not come to an end in time."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "mycelium.programs.check", *words),
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


def _judge(said: bytes) -> list[str]:
    try:
        answer = msgspec.json.decode(said, type=dict[str, Any])
    except msgspec.DecodeError:
        raise Refused(f"the program could not be looked at within {PROGRAM_CHECK_S} s and bounded memory") from None
    error = answer.get("error")
    if error is not None:
        raise KINDS[error["kind"]](error["message"], hint=error["hint"])
    return answer["kept"]
