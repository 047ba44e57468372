"""What an error of the disk means to a person."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from mycelium.base.errors import Exhausted, Unavailable
from mycelium.base.units import format_size

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def disk_errors(what: str, where: Path) -> Generator[None]:
    """Turn the `OSError`s of a block into `Exhausted` (no room) or `Unavailable` (anything else)."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise Exhausted(f"could not {what}: the disk of {where} is full", hint="free some space there") from error
        raise Unavailable(f"could not {what} in {where}: {error.strerror or error}") from error


def check_room(where: Path, reserve_bytes: int) -> None:
    """`Exhausted` when less than `reserve_bytes` is left, so that logs and records can still be written."""
    if reserve_bytes <= 0:
        return
    stat = os.statvfs(where)
    free_bytes = stat.f_bavail * stat.f_frsize
    if free_bytes < reserve_bytes:
        raise Exhausted(
            f"the disk of {where} has {format_size(free_bytes)} left; {format_size(reserve_bytes)} are kept free",
            hint="free some space there",
        )
