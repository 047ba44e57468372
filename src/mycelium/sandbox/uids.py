"""A user id of its own for every step of a root agent, lent for as long as a file descriptor stays open.

The lease is a lock on `/run/mycelium/uids/<uid>`: it holds machine-wide, for several sites at once, and ends by itself
with the last process that has the descriptor.
"""

from __future__ import annotations

import os
from pathlib import Path

from mycelium.base import lock
from mycelium.base.errors import Exhausted, Unavailable

DIRECTORY = Path("/run/mycelium/uids")
COUNT = 4096
# Unused by Debian, systemd (up to 1,879,048,191) and the usual subordinate ids; lower ones serve inside containers.
BASES = (1_900_000_000, 200_000, 20_000)


def base(uid_map: str) -> int:
    """The first of `BASES` whose whole range exists in this user namespace. `uid_map` is /proc/self/uid_map."""
    ranges = [(int(first), int(count)) for first, _, count in (line.split() for line in uid_map.splitlines())]
    for candidate in BASES:
        if any(first <= candidate and candidate + COUNT <= first + count for first, count in ranges):
            return candidate
    raise Unavailable(f"this user namespace has no {COUNT} spare user ids", hint="run the agent as an ordinary user")


def lease(directory: Path = DIRECTORY, *, first: int | None = None) -> tuple[int, int]:
    """A user id that no living step on this machine has, and the descriptor that holds it."""
    if first is None:
        first = base(Path("/proc/self/uid_map").read_text())
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    start = os.getpid() * 61 % COUNT  # agents begin at different places, so that they seldom meet
    for step in range(COUNT):
        uid = first + (start + step) % COUNT
        try:
            return uid, lock.take(directory / str(uid))
        except lock.Busy:
            continue
    raise Exhausted(f"all {COUNT} user ids for steps are in use on this machine")
