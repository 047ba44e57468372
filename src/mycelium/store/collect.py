"""A step's outputs become a tree.

The directory is a stranger's, the reader is privileged, and processes of the stranger may still be writing: everything
is opened one component at a time and never through a link, and what is kept is what was read.

Never: reads a file that does not lie in the directory, or more than it was allowed to.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from mycelium.base import limits
from mycelium.base.errors import Refused
from mycelium.base.ids import Digest
from mycelium.base.units import format_size
from mycelium.store.below import Below
from mycelium.store.disk import disk_errors
from mycelium.store.globs import Globs, State
from mycelium.store.objects import CHUNK_BYTES, Objects, Puts
from mycelium.store.scan import link_entry
from mycelium.store.survey import SeenPath, Skipped, Survey, SurveyChoice, refuse_oversize, survey
from mycelium.store.tree import EntryKind, TreeEntry, encode_tree, leaves, tree_of


class _Matching:
    """Chooses what the globs mean, and what lies below that."""

    def __init__(self, globs: Globs) -> None:
        self._globs = globs
        self._states: dict[str, State | None] = {"": globs.start()}  # None: all below is meant
        if globs.matches(globs.start()):
            self._states[""] = None

    def enter(self, path: str, below: Below) -> None:
        return

    def choose(self, path: str, *, is_directory: bool) -> SurveyChoice:
        directory, _, name = path.rpartition("/")
        above = self._states[directory]
        state = None if above is None else self._globs.step(above, name)
        is_meant = state is None or self._globs.matches(state)
        if is_directory:
            self._states[path] = None if is_meant else state
        if is_meant:
            return SurveyChoice.TAKE
        return (
            SurveyChoice.ENTER if is_directory and state and self._globs.may_match_below(state) else SurveyChoice.LEAVE
        )


def collect(
    root: Path,
    globs: Iterable[str],
    objects: Objects,
    *,
    bytes_max: int = limits.OUTPUT_BYTES_MAX,
    entries_max: int = limits.TREE_ENTRIES_MAX,
    uid: int | None = None,
    tell: Callable[[Skipped], None] | None = None,
    links_out: bool = True,
) -> Digest | None:
    """Store what `globs` mean below `root` and return its tree, or None when they mean nothing.

    Links are kept as links. What cannot be kept is told to `tell` and left out: special and unreadable files, other
    file systems, with `links_out` False links that could lead out of the tree and, with `uid`, files of anybody else
    (hard links to them may have been made).

    Errors: `Refused` for a glob that leads out, or for more than `bytes_max` or `entries_max`; nothing is kept then.
    """
    matching = _Matching(Globs(globs))
    with disk_errors("collect the outputs", root), Below(root) as below:
        found = survey(below, matching, entries_max=entries_max, one_device=True)
        refuse_oversize(
            found,
            bytes_max,
            lambda size, most: f"the outputs hold {size}; at most {most} are kept",
            hint="name fewer files with --outputs",
        )
        with objects.batch() as batch:
            entries: dict[str, TreeEntry] = {}
            left_bytes = bytes_max
            for one in found.seen:
                entry = _entry(one, below, batch, found, left_bytes, uid)
                if entry is not None and not links_out and entry.kind is EntryKind.LINK and leaves(entry):
                    found.skipped.append(Skipped(entry.path, f"is a link out of the outputs, to {entry.target!r}"))
                elif entry is not None:
                    left_bytes -= entry.size_bytes
                    entries[entry.path] = entry
                    _add_parents(entry.path, entries)
            if tell is not None:
                for skipped in found.skipped:
                    tell(skipped)
            if not entries:
                return None
            return batch.put(encode_tree(tree_of(entries.values())))


def _entry(
    one: SeenPath, below: Below, puts: Puts, found: Survey, left_bytes: int, uid: int | None
) -> TreeEntry | None:
    if one.kind is EntryKind.DIR:
        return TreeEntry(one.path, EntryKind.DIR)
    try:
        if one.kind is EntryKind.LINK:
            return link_entry(one.path, below, found)
        fd = below.open_file(one.path)
    except OSError as error:
        found.skipped.append(Skipped(one.path, f"cannot be read: {error.strerror or error}"))
        return None
    with io.FileIO(fd) as file:
        stat = os.fstat(fd)
        if uid is not None and stat.st_uid != uid:
            found.skipped.append(Skipped(one.path, "belongs to somebody else"))
            return None
        if stat.st_size > left_bytes:
            raise Refused(
                f"{one.path} grew while it was collected: {format_size(left_bytes)} were left for it",
                hint="end what the job started before the job ends",
            )
        digest, size_bytes = _put(puts, file, stat.st_size)
        return TreeEntry(one.path, EntryKind.FILE, size_bytes, bool(stat.st_mode & 0o100), digest)


def _put(puts: Puts, file: io.FileIO, size_bytes: int) -> tuple[Digest, int]:
    """The first `size_bytes` of a file, or what there still is of them."""
    if size_bytes <= CHUNK_BYTES:
        data = file.read(size_bytes)
        return puts.put(data), len(data)
    left_bytes = size_bytes
    with puts.begin() as writing:
        while left_bytes and (chunk := file.read(min(left_bytes, CHUNK_BYTES))):
            writing.write(chunk)
            left_bytes -= len(chunk)
        return writing.commit(), size_bytes - left_bytes


def _add_parents(path: str, entries: dict[str, TreeEntry]) -> None:
    while (path := path.rpartition("/")[0]) and path not in entries:
        entries[path] = TreeEntry(path, EntryKind.DIR)
