"""Hashes of files that have not changed since they were last read, kept in a file between two scans.

A file counts as unchanged if its size, inode, modification and status-change times are the same. One that was changed
within two seconds of being hashed is hashed again next time: two writes may share one time stamp.

Never: a reason to fail. A cache that is missing, broken or of another version is an empty one.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from mycelium.base import files
from mycelium.base.clock import Clock
from mycelium.base.ids import Digest
from mycelium.base.units import MIB, S_NS

_VERSION = 1
_RACY_NS = 2 * S_NS  # the coarsest time stamps that are in use (FAT)
_BYTES_MAX = 256 * MIB


class _Known(Struct, frozen=True, array_like=True):
    size_bytes: int
    inode: int
    mtime_ns: int
    ctime_ns: int
    digest: Digest


class _KeptHash(Struct):
    version: int
    files: dict[str, _Known]


class HashCache:
    def __init__(self, file: Path | None, now_ns: int | None = None) -> None:
        """Without a `file`, remembers nothing."""
        self._file = file
        self._now_ns = Clock().now_ns() if now_ns is None else now_ns
        self._known = {} if file is None else _load(file)
        self._next: dict[str, _Known] = {}

    def get(self, path: str, stat: os.stat_result) -> Digest | None:
        known = self._known.get(path)
        if known is None or known != _known(stat, known.digest):
            return None
        self._next[path] = known
        return known.digest

    def put(self, path: str, stat: os.stat_result, digest: Digest) -> None:
        """Remember the hash of a file as it was *before* it was read."""
        if stat.st_mtime_ns < self._now_ns - _RACY_NS:
            self._next[path] = _known(stat, digest)

    def save(self) -> None:
        if self._file is None or self._next == self._known:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            files.write(self._file, msgspec.msgpack.encode(_KeptHash(_VERSION, self._next)))
        except OSError:
            self.forget()

    def forget(self) -> None:
        """Trust nothing of it next time: what it said was found to be wrong."""
        if self._file is not None:
            with suppress(OSError):
                self._file.unlink(missing_ok=True)


def _known(stat: os.stat_result, digest: Digest) -> _Known:
    return _Known(stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, digest)


def _load(file: Path) -> dict[str, _Known]:
    try:
        with open(file, "rb") as opened:
            kept = msgspec.msgpack.decode(opened.read(_BYTES_MAX), type=_KeptHash)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return kept.files if kept.version == _VERSION else {}
