"""The Unix socket at which agents knock."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import struct
import tempfile
from pathlib import Path

from mycelium.base import lock
from mycelium.base.errors import Conflict, Denied
from mycelium.base.home import Home

PATH_BYTES_MAX = 107  # sockaddr_un holds 108 with the final zero


def place(home: Path) -> Path:
    """Where the socket of this site is: in its home, or in a short directory of our own when that path is too long.

    Always the same for the same home, so that agents find a head that was restarted.
    """
    path = Home(home).engine_socket
    if len(os.fsencode(path)) <= PATH_BYTES_MAX:
        return path
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    directory = Path(tempfile.gettempdir()) / f"mycelium-{os.geteuid()}-{name}"
    directory.mkdir(mode=0o700, exist_ok=True)
    about = directory.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o077:
        raise Denied(f"{directory} is not ours alone", hint="remove it, or choose a shorter home directory")
    return directory / path.name


def listen(path: Path) -> socket.socket:
    """A listening socket that only this user can reach. What a killed head left there is replaced."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(256)
    listener.setblocking(False)
    return listener


def hold(home: Path) -> int:
    """Be the only engine of this home for as long as the descriptor is open."""
    try:
        return lock.take(Home(home).engine_lock, lock.this_process())
    except lock.Busy as busy:
        raise Conflict(
            f"another head (pid {busy.who or 'unknown'}) has {home}",
            hint="`myc status` says where; `myc down` stops it",
        ) from None


def peer_uid(connection: socket.socket) -> int:
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return uid
