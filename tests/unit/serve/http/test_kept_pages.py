"""Which kept results a program job begins with."""

from __future__ import annotations

from mycelium.base.ids import Digest
from mycelium.base.limits import PAGES_MAX
from mycelium.serve.http.programs import pages
from mycelium.store.memory import MemoryObjects
from mycelium.store.tree import EntryKind, TreeEntry, encode_tree, tree_of

ONE, TWO = "a" * 32, "b" * 32


def left(objects: MemoryObjects, files: dict[str, bytes]) -> Digest:
    """The outputs of a job that left these files."""
    entries = [TreeEntry(path, EntryKind.FILE, len(data), digest=objects.put(data)) for path, data in files.items()]
    return objects.put(encode_tree(tree_of([TreeEntry("kept", EntryKind.DIR), *entries])))


def test_the_newest_pages_of_the_programs_kernels_are_taken() -> None:
    objects = MemoryObjects()
    trees = [
        left(objects, {"result.pmv": b"r", f"kept/{ONE}.pmk": b"%d" % at, f"kept/{TWO}.pmk": b"other"})
        for at in range(PAGES_MAX + 3)
    ]
    directory, *found = pages(objects, [ONE], trees)
    assert (directory.path, directory.kind) == ("kept", EntryKind.DIR)
    assert [objects.read(entry.digest or Digest("")) for entry in found] == [b"%d" % at for at in range(PAGES_MAX)]
    assert len({entry.path for entry in found}) == PAGES_MAX


def test_equal_pages_are_taken_once_and_a_missing_one_not_at_all() -> None:
    objects = MemoryObjects()
    same = [left(objects, {"result.pmv": b"%d" % at, f"kept/{ONE}.pmk": b"page"}) for at in range(3)]
    gone = left(objects, {f"kept/{ONE}.pmk": b"gone"})
    objects.delete(objects.put(b"gone"))
    unknown = Digest("c" * 64)
    assert len(pages(objects, [ONE], [unknown, gone, *same])) == 2


def test_a_program_that_keeps_nothing_has_no_directory_for_it() -> None:
    objects = MemoryObjects()
    assert pages(objects, [ONE], [left(objects, {"result.pmv": b"r"})]) == []
