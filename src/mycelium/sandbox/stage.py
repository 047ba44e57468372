"""Becoming nobody: how a root agent starts a payload under a user of its own that cannot reach the agent's files.

Bubblewrap runs as that user, so the directories that it is to bind (the step's work, Python's prefix, both perhaps
below a 0700 home) are first bound to a place that it can reach, in a mount namespace of its own. A non-root agent needs
none of this: its payloads run as its own user, behind bubblewrap's walls alone.

Called between fork and exec. Never: returns to the caller's namespace.
"""


# Paths are strings here, because this runs at the start of every step.
# ruff: noqa: PTH102

from __future__ import annotations

import os
from collections.abc import Sequence

from mycelium.sandbox import linux

PLACE = "/tmp"


def stage(paths: Sequence[str]) -> dict[str, str]:
    """Bind each of `paths` below a fresh tmpfs that everybody can traverse; where each one is now."""
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount("", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    # Opened before the tmpfs covers them, and after the unshare: a bind must come from the same namespace.
    opened = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in paths]
    linux.mount("stage", PLACE, "tmpfs", options="size=64k,mode=755")
    placed: dict[str, str] = {}
    for number, (path, fd) in enumerate(zip(paths, opened, strict=True)):
        placed[path] = f"{PLACE}/{number}"
        os.mkdir(placed[path])
        linux.mount(f"/proc/self/fd/{fd}", placed[path], flags=linux.MS_BIND | linux.MS_REC)
        os.close(fd)
    return placed


def drop(uid: int) -> None:
    """Become `uid` for good."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
