"""A disk that is full, of bytes or of names: a small tmpfs."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mycelium.base.errors import Exhausted
from mycelium.store.collect import collect
from mycelium.store.directory import DirectoryObjects
from mycelium.store.memory import MemoryObjects
from mycelium.store.objects import digest_of
from mycelium.store.scan import scan, store_tree
from mycelium.store.survey import Skipped
from mycelium.store.tree import read_tree
from mycelium.store.unpack import unpack

KIB = 1024


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=64", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def files(root: Path) -> set[str]:
    return {path.name for path in root.rglob("*") if path.is_file()} - {"lock"}


@pytest.mark.parametrize("wrap", [bytes, io.BytesIO], ids=["bytes", "stream"])
def test_a_full_disk_is_exhausted_and_keeps_no_part_of_an_object(small: Path, wrap):
    objects = DirectoryObjects(small / "objects", reserve_bytes=0)
    first = objects.put(os.urandom(600 * KIB))
    before = files(small)
    large = os.urandom(600 * KIB)
    with pytest.raises(Exhausted, match=r"could not store an object: the disk of .* is full"):
        objects.put(wrap(large))
    assert {name for name in files(small) if not name.endswith(".lock")} == {first[2:]}
    assert files(small) == before
    assert len(objects.read(first)) == 600 * KIB
    objects.delete(first)
    assert objects.read(objects.put(wrap(large))) == large


def test_a_disk_without_free_names_is_exhausted_too(small: Path):
    objects = DirectoryObjects(small / "objects", reserve_bytes=0)
    stored = []
    with pytest.raises(Exhausted, match="is full"):
        for number in range(100):
            stored.append(objects.put(b"%d" % number))
    assert len(stored) > 10
    assert objects.missing(stored) == []
    assert [path for path in (objects.root / "tmp").iterdir() if path.suffix != ".lock"] == []


def test_a_batch_that_fills_the_disk_keeps_only_whole_objects(small: Path):
    objects = DirectoryObjects(small / "objects", reserve_bytes=0)
    with pytest.raises(Exhausted, match="is full"), objects.batch() as batch:
        for number in range(30):
            batch.put(b"%d" % number * 30_000)
    assert [path for path in (objects.root / "tmp").iterdir() if path.suffix != ".lock"] == []


def test_the_reserve_is_left_free(small: Path):
    objects = DirectoryObjects(small / "objects", reserve_bytes=700 * KIB)
    objects.put(b"x" * 500 * KIB)
    with pytest.raises(Exhausted, match=r"has 5..K left; 700K are kept free"):
        objects.put(b"y")


def test_unpacking_onto_a_full_disk_is_exhausted(small: Path, tmp_path: Path):
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "large").write_bytes(os.urandom(2048 * KIB))
    objects = MemoryObjects()
    digest = store_tree(objects, scan(tmp_path / "from"))
    with pytest.raises(Exhausted, match=r"could not unpack a tree: the disk of .* is full"):
        unpack(objects, digest, small / "into")
    assert list((small / "into").iterdir()) == []


def test_opening_a_store_on_a_full_disk_still_reads(small: Path):
    objects = DirectoryObjects(small / "objects", reserve_bytes=0)
    digest = objects.put(b"here")
    with pytest.raises(Exhausted):
        objects.put(os.urandom(2048 * KIB))
    (small / "filler").write_bytes(b"x" * 900 * KIB)
    again = DirectoryObjects(small / "objects", reserve_bytes=0)
    assert again.read(digest) == b"here"
    assert again.missing([digest_of(b"x"), digest]) == [digest_of(b"x")]


def test_another_file_system_below_a_steps_directory_is_left_out(small: Path):
    (small / "foreign").write_bytes(b"foreign")
    objects = MemoryObjects()
    told: list[Skipped] = []
    around = small.parent
    (around / "own").write_bytes(b"own")
    digest = collect(around, ["own", "disk/**"], objects, tell=told.append)
    assert digest is not None
    assert [entry.path for entry in read_tree(objects, digest).entries] == ["disk", "own"]
    assert [str(skipped) for skipped in told] == ["disk: is another file system"]
