from __future__ import annotations

import msgspec
import pytest

from mycelium.base import limits
from mycelium.base.errors import Refused
from mycelium.base.ids import Digest
from mycelium.store.memory import MemoryObjects
from mycelium.store.objects import digest_of
from mycelium.store.tree import (
    EntryKind,
    Tree,
    TreeEntry,
    check,
    decode_tree,
    encode_tree,
    leaves,
    reachable,
    tree_of,
)

CONTENT = digest_of(b"content")


def file(path: str, **rest) -> TreeEntry:
    return TreeEntry(path, EntryKind.FILE, **{"size_bytes": 7, "digest": CONTENT, **rest})


def directory(path: str) -> TreeEntry:
    return TreeEntry(path, EntryKind.DIR)


def link(path: str, target: str) -> TreeEntry:
    return TreeEntry(path, EntryKind.LINK, target=target)


GOOD = (directory("a"), file("a.txt"), file("a/b", executable=True), link("z", "a/b"))


def test_the_encoding_of_a_tree_is_fixed():
    # Stored trees are read for ever: a change of this text needs a new version and a reader of the old one.
    assert encode_tree(tree_of([link("z", "a"), directory("a"), file("a/b", executable=True)])) == (
        b'{"version":1,"entries":[{"path":"a","kind":"dir"},'
        b'{"path":"a/b","kind":"file","size_bytes":7,"executable":true,"digest":"' + CONTENT.encode() + b'"},'
        b'{"path":"z","kind":"link","target":"a"}]}'
    )


def test_the_order_in_which_entries_come_does_not_change_its_bytes():
    assert encode_tree(tree_of(GOOD)) == encode_tree(tree_of(reversed(GOOD)))
    assert decode_tree(encode_tree(tree_of(GOOD))) == tree_of(GOOD)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([file("/etc/passwd")], "leaves the tree"),
        ([file("../up")], "leaves the tree"),
        ([directory("a"), file("a/../../up")], "leaves the tree"),
        ([file("./a")], "leaves the tree"),
        ([file("a//b")], "leaves the tree"),
        ([file("")], "leaves the tree"),
        ([directory("a/")], "leaves the tree"),
        ([file("a\0b")], "is not a path"),
        ([file("a\udc80b")], "is not a path"),
        ([file("n" * 256)], "a name longer than 255 bytes"),
        ([file("ä" * 128)], "a name longer than 255 bytes"),
        ([file("/".join(["d" * 200] * 21))], "longer than 4095 bytes"),
        ([file("/".join("d" * 101))], "deeper than 100"),
        ([file("a"), file("a")], "twice or out of order"),
        ([file("b"), file("a")], "twice or out of order"),
        ([file("a/b")], "does not lie in a directory"),
        ([file("a"), file("a/b")], "does not lie in a directory"),
        ([link("a", "/etc"), file("a/passwd")], "does not lie in a directory"),
        ([file("a", digest=None)], "files have a digest"),
        ([file("a", target="b")], "files have a digest"),
        ([link("a", "")], "files have a digest"),
        ([TreeEntry("a", EntryKind.DIR, digest=CONTENT)], "files have a digest"),
        ([TreeEntry("a", EntryKind.DIR, size_bytes=1)], "only files have a size"),
        ([TreeEntry("a", EntryKind.LINK, target="b", executable=True)], "only files have a size"),
        ([file("a", size_bytes=-1)], "has a size of -1"),
        ([file("a", size_bytes=limits.OBJECT_BYTES_MAX + 1)], "has a size of"),
        ([link("a", "b\0c")], "a target that is not a path"),
        ([link("a", "b\udc80")], "a target that is not a path"),
        ([link("a", "b" * 4096)], "a target longer than"),
        ([file("a", digest=Digest("../../../etc/passwd"))], "is not the name of an object"),
    ],
)
def test_a_tree_that_no_honest_scan_makes_is_refused(entries: list[TreeEntry], message: str):
    with pytest.raises(Refused, match=message):
        check(Tree(1, tuple(entries)))


def test_a_tree_with_too_many_entries_is_refused(monkeypatch):
    monkeypatch.setattr(limits, "TREE_ENTRIES_MAX", 3)
    with pytest.raises(Refused, match="tree has 4 entries; at most 3 are allowed"):
        check(tree_of(GOOD))


def test_ten_mistakes_are_named_at_once_and_no_more():
    with pytest.raises(Refused, match="10 mistakes"):
        check(Tree(1, (file("../x"),) * 1000))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no tree",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"version":1}',
        b'{"version":1,"entries":[{"path":"a","kind":"device"}]}',
        b'{"version":1,"entries":[{"path":"a","kind":"dir","setuid":true}]}',
        b'{"version":1,"entries":[{"path":"\xff","kind":"dir"}]}',
        b'{"version":1,"entries":[{"path":"a","kind":"file","size_bytes":1e99}]}',
    ],
)
def test_bytes_that_are_no_tree_are_refused(data: bytes):
    with pytest.raises(Refused, match="not a tree"):
        decode_tree(data)


def test_a_tree_of_a_later_version_is_refused_with_both_numbers():
    with pytest.raises(Refused, match="tree has version 2; this site reads version 1"):
        decode_tree(msgspec.json.encode({"version": 2, "entries": []}))


@pytest.mark.parametrize(
    ("path", "target", "out"),
    [
        ("l", "a", False),
        ("l", "a/b/c", False),
        ("l", ".", False),
        ("l", "./a", False),
        ("l", "..", True),
        ("l", "../a", True),
        ("l", "/etc", True),
        ("d/l", "../a", False),
        ("d/l", "..", False),
        ("d/l", "../../a", True),
        ("d/l", "x/../a", True),  # x may be a link to somewhere that has another parent
    ],
)
def test_a_link_leaves_a_tree_if_it_could_lead_anywhere_else(path: str, target: str, out: bool):
    assert leaves(link(path, target)) is out


def test_what_trees_need_is_reachable_and_absent_trees_need_nothing():
    objects = MemoryObjects()
    one, two = objects.put(b"one"), objects.put(b"two")
    root = objects.put(encode_tree(tree_of([file("a", digest=one), file("b", digest=two)])))
    assert reachable(objects, [root, Digest("0" * 64)]) == {root, one, two}
