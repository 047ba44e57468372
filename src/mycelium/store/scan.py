"""A working directory becomes a tree, and what has to be sent of it becomes items of packs.

Never: follows a link, or takes a directory half when it is too large.
"""

from __future__ import annotations

import io
import os
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import BinaryIO, NoReturn

from blake3 import blake3
from msgspec import Struct

from mycelium.base import limits
from mycelium.base.errors import Conflict, Missing, Refused
from mycelium.base.ids import Digest
from mycelium.store.below import Below
from mycelium.store.disk import disk_errors
from mycelium.store.hash_cache import HashCache
from mycelium.store.ignore import Everything, Ignore
from mycelium.store.objects import CHUNK_BYTES, Objects, digest_of
from mycelium.store.pack import Item
from mycelium.store.survey import SeenPath, Skipped, Survey, refuse_oversize, survey
from mycelium.store.tree import EntryKind, Tree, TreeEntry, encode_tree, is_text, tree_of
from mycelium.store.verified import verified


class Scan(Struct, frozen=True):
    """What a directory held when it was read. `digest` names its tree; the tree is an object like its files."""

    root: Path
    tree: Tree
    digest: Digest
    skipped: tuple[Skipped, ...]
    encoded: bytes
    cache: Path | None

    @property
    def size_bytes(self) -> int:
        return self.tree.size_bytes

    def digests(self) -> list[Digest]:
        """Everything that a site needs, the tree last: it may only be there when its files are."""
        return [*self.tree.digests(), self.digest]

    def items(self, missing: Collection[Digest]) -> list[Item]:
        """What of `digests()` is in `missing`, ready to be sent in this order."""
        wanted = set(missing)
        items: dict[Digest, Item] = {}
        for entry in self.tree.entries:
            digest = entry.digest
            if digest is not None and digest in wanted and digest not in items:
                items[digest] = Item(
                    digest, entry.size_bytes, partial(self._open, entry.path, digest, entry.size_bytes)
                )
        items.pop(self.digest, None)
        if self.digest in wanted:
            items[self.digest] = Item(self.digest, len(self.encoded), lambda: io.BytesIO(self.encoded))
        return list(items.values())

    def _open(self, path: str, digest: Digest, size_bytes: int) -> BinaryIO:
        """A file, verified to be what it was when it was scanned. Errors: `Conflict`."""

        def altered() -> NoReturn:
            if self.cache is not None:
                HashCache(self.cache).forget()
            raise Conflict(f"{path} changed while it was sent", hint="run the command again")

        try:
            with Below(self.root) as below:
                fd = below.open_file(path)
        except OSError:
            altered()
        return verified(io.FileIO(fd), digest, size_bytes, altered)


def scan(
    root: Path,
    *,
    ignore: bool = True,
    bytes_max: int = limits.UPLOAD_BYTES_MAX,
    entries_max: int = limits.TREE_ENTRIES_MAX,
    cache: Path | None = None,
    now_ns: int | None = None,
) -> Scan:
    """Read the directory `root`, without `.git` and, with `ignore`, without what `.gitignore` files name.

    `cache` is a file in which the hashes of unchanged files are remembered from one scan to the next.
    What cannot be taken (unreadable or special files, names that are no text) is listed in `skipped`.

    Errors: `Missing` when there is no such directory; `Refused` when it holds more than `bytes_max` or `entries_max`.
    """
    hashes = HashCache(cache, now_ns)
    if not root.is_dir():
        raise Missing(f"{root} is not a directory")
    with disk_errors("read the working directory", root), Below(root) as below:
        found = survey(below, Ignore(root) if ignore else Everything(), entries_max=entries_max)
        refuse_oversize(
            found,
            bytes_max,
            lambda size, most: f"{root.absolute()} holds {size}; at most {most} are uploaded",
            hint="name what the job does not need in .gitignore, or run it from a smaller directory",
        )
        entries = [entry for one in found.seen if (entry := _entry(one, below, hashes, found)) is not None]
    hashes.save()
    tree = tree_of(entries)
    encoded = encode_tree(tree)
    if len(encoded) > limits.TREE_BYTES_MAX:
        raise Refused(f"the list of files in {root} is too long", hint="shorten the paths, or leave files out")
    return Scan(root, tree, digest_of(encoded), tuple(found.skipped), encoded, cache)


def store_tree(objects: Objects, scanned: Scan) -> Digest:
    """Put what is missing of a scanned directory, its tree last; return the tree's digest."""
    missing = objects.missing(scanned.digests())
    with objects.batch() as batch:
        for item in scanned.items(missing):
            with item.open() as source:
                batch.put(source, item.digest)
    return scanned.digest


def _entry(one: SeenPath, below: Below, hashes: HashCache, found: Survey) -> TreeEntry | None:
    if one.kind is EntryKind.DIR:
        return TreeEntry(one.path, EntryKind.DIR)
    try:
        if one.kind is EntryKind.LINK:
            return link_entry(one.path, below, found)
        digest = hashes.get(one.path, one.stat)
        if digest is None:
            fd = below.open_file(one.path)
            with io.FileIO(fd) as file:
                stat = os.fstat(fd)
                digest, size_bytes = _hash(file, stat.st_size)
            if size_bytes == stat.st_size:
                hashes.put(one.path, stat, digest)
        else:
            stat, size_bytes = one.stat, one.stat.st_size
        return TreeEntry(one.path, EntryKind.FILE, size_bytes, bool(stat.st_mode & 0o100), digest)
    except OSError as error:
        found.skipped.append(Skipped(one.path, f"cannot be read: {error.strerror or error}"))
        return None


def link_entry(path: str, below: Below, found: Survey) -> TreeEntry | None:
    directory, name = below.parent(path)
    target = os.readlink(name, dir_fd=directory)
    if not is_text(target):
        found.skipped.append(Skipped(path, "is a link to a name that is not UTF-8"))
        return None
    return TreeEntry(path, EntryKind.LINK, target=target)


def _hash(file: io.FileIO, size_bytes: int) -> tuple[Digest, int]:
    """The hash of the first `size_bytes`: a log that is being written to is taken as it was."""
    hasher = blake3()
    left_bytes = size_bytes
    while left_bytes and (chunk := file.read(min(left_bytes, CHUNK_BYTES))):
        hasher.update(chunk)
        left_bytes -= len(chunk)
    return Digest(hasher.hexdigest()), size_bytes - left_bytes
