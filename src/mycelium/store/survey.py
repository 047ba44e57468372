"""What there is below a directory: one walk for working directories and for outputs.

Never: follows a link, opens a file, or believes that what it saw is still there.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from msgspec import Struct

from mycelium.base import limits
from mycelium.base.errors import Refused
from mycelium.base.units import format_size
from mycelium.store.below import Below
from mycelium.store.tree import EntryKind, is_text

_LARGEST_SHOWN = 3
_SPECIAL = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a fifo",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


class Skipped(Struct, frozen=True):
    """Something that is not in the tree although it would belong there, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class SeenPath(Struct, frozen=True):
    path: str
    kind: EntryKind
    stat: os.stat_result


class SurveyChoice(Enum):
    LEAVE = auto()
    TAKE = auto()
    ENTER = auto()  # a directory that is not taken for its own sake


class Chooser(Protocol):
    def enter(self, path: str, below: Below) -> None:
        """The directory `path` is about to be listed."""
        ...

    def choose(self, path: str, *, is_directory: bool) -> SurveyChoice: ...


class Survey(Struct):
    """`seen` holds every directory before what is in it."""

    seen: list[SeenPath] = []
    skipped: list[Skipped] = []
    looked_at: int = 0

    @property
    def size_bytes(self) -> int:
        return sum(one.stat.st_size for one in self.seen if one.kind is EntryKind.FILE)


def survey(
    below: Below,
    chooser: Chooser,
    *,
    entries_max: int = limits.TREE_ENTRIES_MAX,
    one_device: bool = False,
) -> Survey:
    """Walk everything that `chooser` does not leave out. With `one_device`, other file systems are skipped.

    Errors: `Refused` when more than `entries_max` names were met, `OSError` when the root cannot be read.
    """
    found = Survey()
    pending = [""]
    while pending:
        path = pending.pop()
        try:
            directory = below.directory(path)
            if one_device and os.fstat(directory).st_dev != below.device:
                found.skipped.append(Skipped(path, "is another file system"))
                continue
            chooser.enter(path, below)
            listed = _list(below.directory(path), found, entries_max)
        except OSError as error:
            if not path:
                raise
            found.skipped.append(Skipped(path, f"cannot be read: {error.strerror}"))
            continue
        pending.extend(
            reversed([inner for name, status in listed if (inner := _look(path, name, status, chooser, found))])
        )
    return found


def _list(directory: int, found: Survey, entries_max: int) -> list[tuple[str, os.stat_result]]:
    listed: list[tuple[str, os.stat_result]] = []
    with os.scandir(directory) as entries:
        for entry in entries:
            found.looked_at += 1
            if found.looked_at > entries_max:
                raise Refused(
                    f"directory has more than {entries_max} entries",
                    hint="name what is not needed in .gitignore, or pack many small files into one",
                )
            try:
                listed.append((entry.name, entry.stat(follow_symlinks=False)))
            except FileNotFoundError:
                continue  # somebody removed it just now
    return sorted(listed, key=lambda each: each[0])


def _look(directory: str, name: str, status: os.stat_result, chooser: Chooser, found: Survey) -> str:
    """Note one name; return its path if it is a directory to be walked, or nothing."""
    path = f"{directory}/{name}" if directory else name
    mode = stat.S_IFMT(status.st_mode)
    is_directory = mode == stat.S_IFDIR
    if not is_text(name):
        found.skipped.append(Skipped(path.encode(errors="backslashreplace").decode(), "has a name that is not UTF-8"))
        return ""
    choice = chooser.choose(path, is_directory=is_directory)
    if choice is SurveyChoice.LEAVE:
        return ""
    if path.count("/") >= limits.TREE_DEPTH_MAX or len(path.encode()) > limits.PATH_BYTES_MAX:
        found.skipped.append(Skipped(path[:200], "lies too deep, or has too long a path"))
        return ""
    if mode in _SPECIAL:
        found.skipped.append(Skipped(path, f"is {_SPECIAL[mode]}"))
        return ""
    kind = EntryKind.DIR if is_directory else EntryKind.LINK if mode == stat.S_IFLNK else EntryKind.FILE
    if choice is SurveyChoice.TAKE:
        found.seen.append(SeenPath(path, kind, status))
    return path if is_directory else ""


def refuse_oversize(found: Survey, bytes_max: int, message: Callable[[str, str], str], hint: str) -> None:
    """Refuse a sum above `bytes_max`, naming what at the top holds most of it."""
    size_bytes = found.size_bytes
    if size_bytes <= bytes_max:
        return
    tops: Counter[str] = Counter()
    for one in found.seen:
        if one.kind is EntryKind.FILE:
            top, slash, _ = one.path.partition("/")
            tops[top + slash] += one.stat.st_size
    largest = ", ".join(f"{top} {format_size(size)}" for top, size in tops.most_common(_LARGEST_SHOWN))
    raise Refused(f"{message(format_size(size_bytes), format_size(bytes_max))}; the largest: {largest}", hint=hint)
