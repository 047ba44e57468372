"""What a step is and what its node gives to it: one record, which lies in the step's directory as JSON.

The agent writes it last of all preparations. The shim reads it, and so do later lives of the agent and the passage:
an older agent may have written it, so every field but the step has a default.
Standard library, msgspec and rules only: the shim reads it at the start of every step.
"""

# Paths are strings here, because this runs at the start of every step.
# ruff: noqa: PTH118

from __future__ import annotations

import os

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from mycelium.base.limits import STEP_DISK_BYTES
from mycelium.engine import step_files
from mycelium.engine.orders import Sandbox, Step

SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")
SERVICES_SAY_SO = 2  # the wire since which a step says whether it is a service; before, just those had no time limit


class Spec(Struct, frozen=True):
    """Paths are the host's."""

    step: Step
    wire: int = 1  # the `WIRE_VERSION` of the agent that wrote it; those of 0.1 did not say
    uid: int | None = None  # whom it runs as; None: our own user
    cores: tuple[int, ...] = ()
    gpus: tuple[int, ...] | None = None  # None: this node has none to give, and hides none
    disk_bytes: int = STEP_DISK_BYTES
    path: str = ":".join(SYSTEM_PATH)  # where its programs are looked for
    prefixes: tuple[str, ...] = ()  # trees besides the system that its sandbox shows
    etc: str = ""  # what its sandbox shows as /etc
    hidden: tuple[str, ...] = ()  # what its sandbox covers
    hostname: str = "node"
    bwrap: str = "bwrap"
    pool: str = ""  # the file that says how the engine's own pool is reached, where it has one
    cgroup: str | None = None

    @property
    def boxed(self) -> bool:
        return self.step.sandbox is Sandbox.PROCESS


# Made here and not at the first use: it learns the types once, in the process that shims are forked from.
_specs = msgspec.json.Decoder(Spec)


def read(directory: str) -> Spec | None:
    """The spec in a step's directory; None when there is none, or it cannot be read."""
    try:
        with open(os.path.join(directory, step_files.SPEC), "rb") as file:
            found = _specs.decode(file.read(step_files.SMALL_FILE_BYTES_MAX))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if found.wire < SERVICES_SAY_SO and found.step.time_ms == 0:
        return replace(found, step=replace(found.step, service=True))
    return found
