"""What walls and limits this machine offers, found by trying them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mycelium.base.units import GIB, MIB
from mycelium.sandbox import cgroup, spawn, uids
from mycelium.sandbox.box import Box
from mycelium.sandbox.rlimits import Rlimits

PATHS = "/usr/local/bin:/usr/bin:/bin"  # not the environment's PATH: a root agent runs this program
TRIES = 3  # one that was killed by mistake must not take the sandbox from a whole life of an agent


class SandboxOffer(NamedTuple):
    bwrap: str = ""  # the program; empty when steps cannot be sandboxed here
    why_not: str = ""  # then the reason, with what to do about it
    groups: Path | None = None  # where control groups for steps can be made

    @property
    def labels(self) -> dict[str, str]:
        return {
            "sandbox": "process" if self.bwrap else "none",
            "limits": "cgroup" if self.groups else "rlimit",
        }


def probe(etc: Path, work: Path, prefixes: Sequence[str] = ()) -> SandboxOffer:
    """Runs one empty step in a sandbox. `etc` was made by `sandbox.etc`; `work` is any directory.

    Single-threaded callers only. Cost: about 10 ms.
    """
    groups = cgroup.find()
    bwrap = shutil.which("bwrap", path=PATHS)
    if bwrap is None:
        return SandboxOffer(why_not="bubblewrap is not installed: `apt install bubblewrap`", groups=groups)
    try:
        uid, lease_fd = uids.lease() if os.geteuid() == 0 else (None, -1)
    except Exception as error:  # whatever it is, it is the reason why there is no sandbox
        return SandboxOffer(why_not=f"no user id for steps: {error}", groups=groups)
    try:
        box = Box(str(work), str(etc), {}, tuple(prefixes))
        said = _try(bwrap, box, uid)
        for _ in range(TRIES - 1):
            if said is None:
                break
            said = _try(bwrap, box, uid)
    finally:
        if lease_fd >= 0:
            os.close(lease_fd)
    if said is None:
        return SandboxOffer(bwrap=bwrap, groups=groups)
    hint = "may ordinary users make user namespaces here? see `sysctl kernel.unprivileged_userns_clone` and AppArmor"
    return SandboxOffer(why_not=f"{said}; {hint}", groups=groups)


def _try(bwrap: str, box: Box, uid: int | None) -> str | None:
    """None when an empty step ends well in this sandbox, else what was said."""
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    payload = spawn.Payload(("/bin/true",), box.work, {}, Rlimits(GIB, MIB, 1 << 20), box=box, bwrap=bwrap, uid=uid)
    started = spawn.spawn(payload, write_fd, write_fd)
    os.close(write_fd)
    with os.fdopen(read_fd, "rb") as output, os.fdopen(started.failure_fd, "rb") as failure:
        said = failure.read() + output.read()
    os.close(started.status_fd)
    _, status = os.waitpid(started.pid, 0)
    if status == 0:
        return None
    return said.decode(errors="replace").strip() or f"bubblewrap ended with {os.waitstatus_to_exitcode(status)}"
