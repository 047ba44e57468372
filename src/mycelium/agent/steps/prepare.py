"""Making a step's directory: the working directory unpacked, and the spec written last of all."""

from __future__ import annotations

import functools
import os
import shutil
import stat
import subprocess
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import msgspec

from mycelium.agent import probes
from mycelium.base import files
from mycelium.base.errors import Refused, Unavailable
from mycelium.base.ids import StepId
from mycelium.base.limits import STEP_DISK_BYTES
from mycelium.engine import step_files
from mycelium.engine.orders import WIRE_VERSION, Sandbox, Step
from mycelium.engine.spec import SYSTEM_PATH, Spec
from mycelium.sandbox.probe import SandboxOffer
from mycelium.store.objects import Objects
from mycelium.store.unpack import unpack

HOSTNAME_LENGTH_MAX = 64  # Linux's own bound


def fill(step: Step, directory: Path, objects: Objects, uid: int | None) -> None:
    """An empty step directory, then its working directory with everything that the step begins with."""
    remove(directory)
    work = directory / step_files.WORK
    directory.mkdir(mode=0o700)
    work.mkdir(mode=0o755 if uid is None else 0o700)
    if uid is not None:
        os.chown(work, uid, uid)
    if step.workdir is not None:
        unpack(objects, step.workdir, work, uid=uid, gid=uid)
    for path, digest in step.inputs:
        unpack(objects, digest, _make_below(work, path, uid), uid=uid, gid=uid, replace=True)


def _make_below(work: Path, path: str, uid: int | None) -> Path:
    """The directory `path` under `work`, never through a link: a job's own tree may hold links to anywhere."""
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts:
        raise Refused(f"input {path!r} is not below the working directory")
    here = work
    for part in parts:
        here = here / part
        try:
            here.mkdir(mode=0o755)
        except FileExistsError:
            if not stat.S_ISDIR(here.lstat().st_mode):
                raise Refused(f"input {path!r} would lie under {part!r}, which is not a directory") from None
        else:
            if uid is not None:
                os.chown(here, uid, uid)
    return here


def build_spec(
    step: Step,
    offer: SandboxOffer,
    *,
    uid: int | None,
    cores: Iterable[int],
    gpus: Iterable[int] | None,
    etc: Path,
    hostname: str,
    group: str,
    hidden: tuple[str, ...] = (),
    pool: str = "",
) -> Spec:
    """What the shim is told. `group`: the name of the step's control group, where the node can make one."""
    path, prefixes = _python()
    return Spec(
        step=step,
        wire=WIRE_VERSION,
        uid=uid,
        cores=tuple(cores),
        gpus=tuple(gpus) if gpus is not None else None,
        disk_bytes=step.disk_bytes or STEP_DISK_BYTES,
        path=path,
        prefixes=prefixes,
        etc=str(etc),
        hidden=hidden,
        hostname=hostname[:HOSTNAME_LENGTH_MAX],
        bwrap=offer.bwrap,
        pool=pool,
        cgroup=str(offer.groups / group) if offer.groups else None,
    )


@functools.cache
def _python() -> tuple[str, tuple[str, ...]]:
    """Where steps look for programs, and the trees besides the system that they are shown. As long as we live."""
    prefixes = probes.python_prefixes()
    path = ":".join((*(f"{prefix}/bin" for prefix in prefixes), *SYSTEM_PATH))
    return path, (*prefixes, *probes.own_sources())


def write_spec(spec: Spec, directory: Path) -> None:
    files.write(str(directory / step_files.SPEC), msgspec.json.encode(spec))


def check_sandbox(step: Step, bwrap: str, why_not: str) -> None:
    if step.sandbox is Sandbox.PROCESS and not bwrap:
        raise Unavailable("this node cannot sandbox steps", hint=why_not)


def remove(directory: Path) -> None:
    """Take a step's directory away, whatever modes its payload gave to what is in it."""
    if not directory.exists():
        return
    # First aside, so that a step of the same name finds the place free and no half of it is ever taken for a whole.
    aside = directory.with_name(f"{directory.name}.gone-{os.getpid()}-{os.urandom(4).hex()}")
    directory.rename(aside)
    _delete(aside)


def _delete(directory: Path) -> None:
    try:
        shutil.rmtree(directory)
        return
    except (OSError, RecursionError):  # closed directories (when we are not root), or a tree deeper than Python's stack
        pass
    for program in (("chmod", "-R", "u+rwX"), ("rm", "-rf")):
        subprocess.run([*program, "--", str(directory)], check=False, stderr=subprocess.DEVNULL)


def sweep(steps: Path) -> list[StepId]:
    """Names of the step directories; what was being removed when an agent died is removed now."""
    found: list[StepId] = []
    for path in sorted(steps.iterdir()):
        if ".gone-" in path.name:
            _delete(path)
        else:
            found.append(StepId(path.name))
    return found
