from __future__ import annotations

import os
from pathlib import Path

import pytest

from mycelium.base.errors import Conflict, Missing, Refused, Unavailable
from mycelium.base.ids import Digest
from mycelium.store.directory import DirectoryObjects
from mycelium.store.memory import MemoryObjects
from mycelium.store.objects import CHUNK_BYTES, digest_of
from mycelium.store.tree import EntryKind, Tree, TreeEntry, encode_tree, tree_of
from mycelium.store.unpack import unpack


@pytest.fixture
def objects() -> MemoryObjects:
    return MemoryObjects()


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "into"


def tree(objects: MemoryObjects, *entries: TreeEntry) -> Digest:
    return objects.put(encode_tree(tree_of(entries)))


def file(objects: MemoryObjects, path: str, data: bytes, *, executable: bool = False) -> TreeEntry:
    return TreeEntry(path, EntryKind.FILE, len(data), executable, objects.put(data))


def link(path: str, target: str) -> TreeEntry:
    return TreeEntry(path, EntryKind.LINK, target=target)


def directory(path: str) -> TreeEntry:
    return TreeEntry(path, EntryKind.DIR)


def test_a_tree_becomes_files_directories_and_links(objects: MemoryObjects, into: Path):
    long = b"x" * (3 * CHUNK_BYTES + 1)
    digest = tree(
        objects,
        directory("a"),
        directory("a-b"),
        file(objects, "a-b/c", b"between"),
        file(objects, "a/long", long),
        file(objects, "a/run", b"#!/bin/sh\n", executable=True),
        file(objects, "empty", b""),
        link("way", "a/long"),
    )
    unpack(objects, digest, into)
    assert (into / "a/long").read_bytes() == long
    assert (into / "a-b/c").read_bytes() == b"between"
    assert (into / "empty").read_bytes() == b""
    assert os.access(into / "a/run", os.X_OK)
    assert not (into / "a/long").stat().st_mode & 0o111
    assert (into / "way").readlink() == Path("a/long")


def test_unpacked_files_are_copies(tmp_path: Path, into: Path):
    objects = DirectoryObjects(tmp_path / "objects", reserve_bytes=0)
    digest = objects.put(encode_tree(tree_of([TreeEntry("f", EntryKind.FILE, 4, False, objects.put(b"true"))])))
    unpack(objects, digest, into)
    (into / "f").write_bytes(b"mine")
    assert objects.read(digest_of(b"true")) == b"true"


def test_nothing_is_written_when_an_object_is_missing(objects: MemoryObjects, into: Path):
    entry = file(objects, "a", b"gone")
    digest = tree(objects, entry)
    objects.delete(digest_of(b"gone"))
    with pytest.raises(Missing, match="1 of the tree's objects are not here"):
        unpack(objects, digest, into)
    assert not into.exists()


def test_a_tree_above_the_bound_is_refused_before_anything_is_written(objects: MemoryObjects, into: Path):
    digest = tree(objects, file(objects, "a", b"12345"), file(objects, "b", b"67890"))
    with pytest.raises(Refused, match="tree holds 10B; at most 9B are allowed"):
        unpack(objects, digest, into, bytes_max=9)
    assert not into.exists()


def test_a_size_that_lies_is_refused(objects: MemoryObjects, into: Path):
    digest = tree(objects, TreeEntry("a", EntryKind.FILE, 1, False, objects.put(b"x" * 1000)))
    with pytest.raises(Refused, match="a has 1000B, not 1B as its tree says"):
        unpack(objects, digest, into, bytes_max=10)
    assert list(into.iterdir()) == []


def test_a_hostile_tree_writes_nothing_outside(objects: MemoryObjects, into: Path, tmp_path: Path):
    target = objects.put(b"evil")
    evil = TreeEntry("evil/x", EntryKind.FILE, 4, False, target)
    for entries in (
        [TreeEntry("../evil", EntryKind.FILE, 4, False, target)],
        [TreeEntry(f"{tmp_path}/evil", EntryKind.FILE, 4, False, target)],
        [link("evil", str(tmp_path)), evil],
        [directory("evil"), link("evil", str(tmp_path)), evil],
    ):
        with pytest.raises(Refused):
            unpack(objects, objects.put(encode_tree(Tree(1, tuple(entries)))), into)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_a_link_that_was_planted_in_the_target_is_not_followed(objects: MemoryObjects, into: Path, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    into.mkdir()
    (into / "a").symlink_to(outside)
    digest = tree(objects, directory("a"), file(objects, "a/b", b"data"))
    for replace in (False, True):
        with pytest.raises(Conflict, match="a is in the way"):
            unpack(objects, digest, into, replace=replace)
    assert list(outside.iterdir()) == []


def test_a_file_in_the_way_is_a_conflict_unless_it_may_be_replaced(objects: MemoryObjects, into: Path, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    into.mkdir()
    (into / "f").symlink_to(outside)
    digest = tree(objects, file(objects, "f", b"new"))
    with pytest.raises(Conflict, match="f is in the way"):
        unpack(objects, digest, into)
    unpack(objects, digest, into, replace=True)
    assert (into / "f").read_bytes() == b"new"
    assert not (into / "f").is_symlink()
    assert outside.read_bytes() == b"precious"


def test_directories_that_are_there_are_filled(objects: MemoryObjects, into: Path):
    (into / "a").mkdir(parents=True)
    (into / "a" / "mine").write_bytes(b"mine")
    unpack(objects, tree(objects, directory("a"), file(objects, "a/new", b"new")), into)
    assert {path.name for path in (into / "a").iterdir()} == {"mine", "new"}


def test_links_out_of_the_tree_are_left_out_and_told_where_they_are_not_wanted(objects: MemoryObjects, into: Path):
    digest = tree(objects, link("out", "/etc/passwd"), link("within", "there"))
    told: list[str] = []
    unpack(objects, digest, into, links_out=False, tell=told.append)
    assert told == ["link 'out' leads out of the tree, to '/etc/passwd': it is left out"]
    assert [path.name for path in into.iterdir()] == ["within"]
    unpack(objects, digest, into, replace=True)
    assert (into / "out").readlink() == Path("/etc/passwd")


def test_what_is_in_the_way_is_named_with_both_ways_out(objects: MemoryObjects, into: Path):
    digest = tree(objects, link("out", "there"))
    unpack(objects, digest, into)
    with pytest.raises(Conflict, match="out is in the way") as found:
        unpack(objects, digest, into)
    assert found.value.hint == "name an empty directory, or replace it with --force"


def test_a_corrupt_object_is_not_left_in_the_directory(tmp_path: Path, into: Path):
    objects = DirectoryObjects(tmp_path / "objects", reserve_bytes=0)
    true = b"x" * (2 * CHUNK_BYTES)
    content = objects.put(true)
    digest = objects.put(encode_tree(tree_of([TreeEntry("f", EntryKind.FILE, len(true), False, content)])))
    stored = objects.root / content[:2] / content[2:]
    stored.chmod(0o600)
    stored.write_bytes(true[:-1] + b"!")
    with pytest.raises(Unavailable, match="is corrupt"):
        unpack(objects, digest, into)
    assert list(into.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_everything_belongs_to_whom_it_is_for_and_links_are_not_followed(objects: MemoryObjects, into: Path, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"")
    digest = tree(objects, directory("d"), file(objects, "d/f", b"data"), link("out", str(outside)))
    unpack(objects, digest, into, uid=12345, gid=54321)
    for path in (into, into / "d", into / "d" / "f", into / "out"):
        assert (path.lstat().st_uid, path.lstat().st_gid) == (12345, 54321)
    assert outside.stat().st_uid == 0


def test_the_directory_around_must_be_there(objects: MemoryObjects, tmp_path: Path):
    with pytest.raises(Unavailable, match="could not unpack a tree"):
        unpack(objects, tree(objects, file(objects, "a", b"data")), tmp_path / "no" / "where")
