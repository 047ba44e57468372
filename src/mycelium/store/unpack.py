"""A tree becomes a directory.

Never: writes outside the directory it was given, through a link, or over something that was there, unless told to.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from mycelium.base import limits
from mycelium.base.errors import Conflict, Missing, Refused
from mycelium.base.ids import Digest
from mycelium.base.units import format_size
from mycelium.store.below import Below
from mycelium.store.disk import disk_errors
from mycelium.store.objects import CHUNK_BYTES, Objects
from mycelium.store.tree import EntryKind, Tree, TreeEntry, check_size, leaves, read_tree

_IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENOTEMPTY)


def unpack(
    objects: Objects,
    digest: Digest,
    into: Path,
    *,
    uid: int | None = None,
    gid: int | None = None,
    bytes_max: int = limits.OBJECT_BYTES_MAX,
    links_out: bool = True,
    tell: Callable[[str], None] | None = None,
    replace: bool = False,
) -> Tree:
    """Write the tree `digest` into the directory `into`, which is made if need be, and return what was written.

    Every object is verified and copied, never linked: steps may write into their files. With `uid` and `gid`, all of
    it, `into` included, belongs to them. With `links_out` False, links that could lead out of the tree are left out and
    told to `tell`: right for a stranger's tree in a person's own directory. With `replace`, files and links in the way
    are replaced.

    Errors: `Missing` and `Refused` before anything is written; `Conflict` (something is in the way), `Unavailable` (a
    corrupt object) and `Exhausted` (disk full) may leave a part behind.
    """
    tree = read_tree(objects, digest)
    check_size(tree, bytes_max)
    if not links_out:
        tree = _without_links_out(tree, tell)
    missing = objects.missing(tree.digests())
    if missing:
        raise Missing(f"{len(missing)} of the tree's objects are not here, the first is {missing[0][:12]}")
    with disk_errors("unpack a tree", into), _in_the_way(".", into):
        into.mkdir(exist_ok=True)
        with Below(into) as below:
            _own(below.directory(""), uid, gid)
            for entry in tree.entries:
                with _in_the_way(entry.path, into):
                    _write(entry, below, objects, uid, gid, replace=replace)
    return tree


def _write(
    entry: TreeEntry, below: Below, objects: Objects, uid: int | None, gid: int | None, *, replace: bool
) -> None:
    directory, name = below.parent(entry.path)
    if entry.kind is EntryKind.DIR:
        with suppress(FileExistsError):  # if it is no directory, opening it fails
            os.mkdir(name, dir_fd=directory)
        _own(below.directory(entry.path), uid, gid)
        return
    if replace:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)
    if entry.digest is None:
        os.symlink(entry.target, name, dir_fd=directory)
        if uid is not None or gid is not None:
            os.chown(name, _id(uid), _id(gid), dir_fd=directory, follow_symlinks=False)
        return
    mode = 0o777 if entry.executable else 0o666
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=directory)
    try:
        _copy(objects, entry.digest, entry, fd)
        _own(fd, uid, gid)
    except BaseException:
        with suppress(OSError):
            os.unlink(name, dir_fd=directory)
        raise
    finally:
        os.close(fd)


def _copy(objects: Objects, digest: Digest, entry: TreeEntry, fd: int) -> None:
    # Reading, hashing and writing in small steps is faster than copy_file_range and hashing what it copied: to be
    # verified, the bytes have to come through the processor anyway.
    if entry.size_bytes <= CHUNK_BYTES:
        # Of many small files, each question to the store is a good part of the time: here its bytes say their size.
        data = objects.read(digest)
        _check_size(entry, len(data))
        _write_all(fd, data)
        return
    _check_size(entry, objects.size(digest))
    with objects.open(digest) as source:
        while chunk := source.read(CHUNK_BYTES):
            _write_all(fd, chunk)


def _check_size(entry: TreeEntry, size_bytes: int) -> None:
    if size_bytes != entry.size_bytes:
        raise Refused(
            f"{entry.path} has {format_size(size_bytes)}, not {format_size(entry.size_bytes)} as its tree says"
        )


def _write_all(fd: int, data: bytes) -> None:
    done = os.write(fd, data)
    while done < len(data):
        done += os.write(fd, data[done:])


def _own(fd: int, uid: int | None, gid: int | None) -> None:
    if uid is not None or gid is not None:
        os.fchown(fd, _id(uid), _id(gid))


def _id(number: int | None) -> int:
    return -1 if number is None else number


def _without_links_out(tree: Tree, tell: Callable[[str], None] | None) -> Tree:
    kept: list[TreeEntry] = []
    for entry in tree.entries:
        if entry.kind is not EntryKind.LINK or not leaves(entry):
            kept.append(entry)
        elif tell is not None:
            tell(f"link {entry.path!r} leads out of the tree, to {entry.target!r}: it is left out")
    return Tree(tree.version, tuple(kept))


@contextmanager
def _in_the_way(path: str, into: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _IN_THE_WAY:
            raise Conflict(
                f"{path} is in the way in {into}", hint="name an empty directory, or replace it with --force"
            ) from error
        raise
