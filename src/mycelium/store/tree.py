"""Trees: directories as objects.

A tree names the files, directories and links below a directory, in the order of their paths, and the objects that hold
the files. Its encoding is JSON, the same for the same directory on every machine: equal directories are one object.

Never: touches a file system. `check` is all that stands between a stranger's tree and a disk, so it is pure and whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec
from msgspec import Struct

from mycelium.base import limits
from mycelium.base.errors import Fault, Refused, refuse
from mycelium.base.ids import Digest, parse_digest
from mycelium.base.units import format_size
from mycelium.store.objects import Objects

TREE_VERSION = 1
NAME_BYTES_MAX = 255  # Linux's own bound on one name (NAME_MAX)
_FAULTS_SHOWN = 10


class EntryKind(StrEnum):
    FILE = "file"
    DIR = "dir"
    LINK = "link"


class TreeEntry(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One name. A file has a digest and a size, a link has a target, a directory has neither."""

    path: str  # relative, with /, never leaving the tree
    kind: EntryKind
    size_bytes: int = 0
    executable: bool = False
    digest: Digest | None = None
    target: str = ""


class Tree(Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    entries: tuple[TreeEntry, ...]

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.entries)

    def digests(self) -> list[Digest]:
        """The objects of its files, each once, in the order of their paths."""
        return list(dict.fromkeys(entry.digest for entry in self.entries if entry.digest is not None))


def tree_of(entries: Iterable[TreeEntry]) -> Tree:
    return Tree(TREE_VERSION, tuple(sorted(entries, key=lambda entry: entry.path)))


def encode_tree(tree: Tree) -> bytes:
    return msgspec.json.encode(tree)


def decode_tree(data: bytes) -> Tree:
    """The tree that `data` encodes, found safe by `check`. Errors: `Refused`."""
    try:
        tree = msgspec.json.decode(data, type=Tree)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"not a tree: {error}") from None
    check(tree)
    return tree


def read_tree(objects: Objects, digest: Digest) -> Tree:
    """Errors: `Missing`, `Unavailable` (corrupt), `Refused` (not a tree, or one that no honest scan makes)."""
    return decode_tree(objects.read(digest, limits.TREE_BYTES_MAX))


def reachable(objects: Objects, roots: Iterable[Digest]) -> set[Digest]:
    """The trees in `roots` that are here, and all objects of their files: what a sweep must spare."""
    found: set[Digest] = set()
    here = set(roots)
    here -= set(objects.missing(here))
    for root in here:
        found.add(root)
        found.update(read_tree(objects, root).digests())
    return found


def check(tree: Tree) -> None:
    """Refuse a tree that could harm whoever unpacks it, or that is not in the one true order."""
    if tree.version != TREE_VERSION:
        raise Refused(f"tree has version {tree.version}; this site reads version {TREE_VERSION}")
    if len(tree.entries) > limits.TREE_ENTRIES_MAX:
        raise Refused(f"tree has {len(tree.entries)} entries; at most {limits.TREE_ENTRIES_MAX} are allowed")
    faults: list[Fault] = []
    directories = {""}
    before = ""
    for entry in tree.entries:
        message = _path_fault(entry.path) or _content_fault(entry)
        if not message and entry.path <= before:
            message = "comes twice or out of order"
        if not message and entry.path.rpartition("/")[0] not in directories:
            message = "does not lie in a directory of the tree"
        if message:
            faults.append(Fault(repr(entry.path[:200]), message))
            if len(faults) == _FAULTS_SHOWN:
                break
        if entry.kind is EntryKind.DIR:
            directories.add(entry.path)
        before = entry.path
    refuse(faults)


def check_size(tree: Tree, bytes_max: int) -> None:
    if tree.size_bytes > bytes_max:
        raise Refused(f"tree holds {format_size(tree.size_bytes)}; at most {format_size(bytes_max)} are allowed")


def leaves(entry: TreeEntry) -> bool:
    """Whether following this link could lead out of the tree.

    It cannot if its target is relative and climbs no higher than the root, with every `..` in front: the link lies
    below true directories, so climbing stays in the tree, and what it then goes through are names of the tree again.
    """
    parts = [part for part in entry.target.split("/") if part not in ("", ".")]
    ups = next((at for at, part in enumerate(parts) if part != ".."), len(parts))
    return entry.target.startswith("/") or ".." in parts[ups:] or ups > entry.path.count("/")


def _path_fault(path: str) -> str:
    if not is_text(path) or "\0" in path:
        return "is not a path"
    if len(path.encode()) > limits.PATH_BYTES_MAX:
        return f"is longer than {limits.PATH_BYTES_MAX} bytes"
    parts = path.split("/")
    if len(parts) > limits.TREE_DEPTH_MAX:
        return f"lies deeper than {limits.TREE_DEPTH_MAX} directories"
    for part in parts:
        if part in ("", ".", ".."):
            return "leaves the tree, or is written in a roundabout way"
        if len(part.encode()) > NAME_BYTES_MAX:
            return f"has a name longer than {NAME_BYTES_MAX} bytes"
    return ""


def _content_fault(entry: TreeEntry) -> str:
    file, link = entry.kind is EntryKind.FILE, entry.kind is EntryKind.LINK
    if file != (entry.digest is not None) or link != bool(entry.target):
        return "files have a digest, links have a target, and nothing else has"
    if not file and (entry.size_bytes or entry.executable):
        return "only files have a size or are executable"
    if not 0 <= entry.size_bytes <= limits.OBJECT_BYTES_MAX:
        return f"has a size of {entry.size_bytes} bytes"
    if link and (not is_text(entry.target) or "\0" in entry.target):
        return "has a target that is not a path"
    if len(entry.target.encode()) > limits.PATH_BYTES_MAX:
        return f"has a target longer than {limits.PATH_BYTES_MAX} bytes"
    if entry.digest is not None:
        try:
            parse_digest(entry.digest)
        except Refused as error:
            return error.message
    return ""


def is_text(name: str) -> bool:
    """Whether a name of the file system is UTF-8: others come from the system with lone surrogates in them."""
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
