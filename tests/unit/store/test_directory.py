"""What is special about objects in a directory: altered bytes, leftovers, several stores over one directory."""

from __future__ import annotations

import errno
import io
import os
import threading
from pathlib import Path

import pytest

from mycelium.base.errors import Exhausted, Missing, Refused, Unavailable
from mycelium.base.units import TIB
from mycelium.store.directory import DirectoryObjects
from mycelium.store.objects import CHUNK_BYTES, digest_of


@pytest.fixture
def objects(tmp_path: Path) -> DirectoryObjects:
    return DirectoryObjects(tmp_path / "objects", reserve_bytes=0)


def file_of(objects: DirectoryObjects, digest: str) -> Path:
    return objects.root / digest[:2] / digest[2:]


def spoil(path: Path, data: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(data)


def temporary_files(objects: DirectoryObjects) -> list[str]:
    return [path.name for path in (objects.root / "tmp").iterdir() if path.suffix != ".lock"]


LONG = b"long" * CHUNK_BYTES


@pytest.mark.parametrize(
    "spoiled",
    [LONG[:-1] + b"!", b"!" + LONG[1:], LONG[:-1], b""],
    ids=["altered at the end", "altered at the start", "cut", "emptied"],
)
def test_altered_bytes_are_found_out_put_aside_and_can_be_put_again(objects: DirectoryObjects, spoiled: bytes):
    digest = objects.put(LONG)
    spoil(file_of(objects, digest), spoiled)
    with pytest.raises(Unavailable, match=f"object {digest[:12]} is corrupt"), objects.open(digest) as opened:
        while opened.read(CHUNK_BYTES):
            pass
    assert objects.missing([digest]) == [digest]
    assert (objects.root / "bad" / digest).read_bytes() == spoiled
    assert objects.put(LONG) == digest
    assert objects.read(digest) == LONG


def test_whoever_reads_as_many_bytes_as_there_are_has_true_bytes(objects: DirectoryObjects):
    digest = objects.put(b"true")
    spoil(file_of(objects, digest), b"fake")
    with pytest.raises(Unavailable, match="corrupt"), objects.open(digest) as opened:
        opened.read(4)


def test_reading_at_once_finds_altered_bytes_out(objects: DirectoryObjects):
    digest = objects.put(b"true")
    spoil(file_of(objects, digest), b"fake")
    with pytest.raises(Unavailable, match="corrupt"):
        objects.read(digest)
    with pytest.raises(Missing):
        objects.read(digest)


def test_bytes_after_the_end_of_an_object_are_noticed(objects: DirectoryObjects):
    digest = objects.put(b"true")
    spoil(file_of(objects, digest), b"true and more")
    with pytest.raises(Unavailable, match="corrupt"):
        objects.read(digest)


def test_a_good_object_that_took_a_bad_ones_place_is_not_put_aside(objects: DirectoryObjects):
    digest = objects.put(b"true")
    spoil(file_of(objects, digest), b"fake")
    opened = objects.open(digest)
    objects.delete(digest)
    objects.put(b"true")
    with pytest.raises(Unavailable, match="corrupt"):
        opened.read()
    assert objects.read(digest) == b"true"


@pytest.mark.parametrize("wrap", [bytes, io.BytesIO], ids=["bytes", "stream"])
def test_putting_an_object_replaces_one_of_the_wrong_size(objects: DirectoryObjects, wrap):
    digest = objects.put(LONG)
    spoil(file_of(objects, digest), b"")
    objects.put(wrap(LONG))
    assert objects.read(digest) == LONG


def test_nothing_temporary_is_left_after_puts_good_and_bad(objects: DirectoryObjects):
    objects.put(b"good")
    objects.put(io.BytesIO(LONG))
    objects.put(io.BytesIO(LONG))
    with pytest.raises(Refused):
        objects.put(io.BytesIO(LONG), expected=digest_of(b"other"))
    with pytest.raises(ZeroDivisionError), objects.batch() as batch:
        batch.put(b"never")
        raise ZeroDivisionError
    assert temporary_files(objects) == []
    assert not objects.has(digest_of(b"never"))


def test_objects_of_a_batch_are_not_seen_before_they_are_durable(objects: DirectoryObjects):
    with objects.batch() as batch:
        digest = batch.put(b"soon")
        assert not objects.has(digest)
    assert objects.has(digest)


def test_a_batch_makes_its_objects_durable_now_and_then(objects: DirectoryObjects, monkeypatch):
    monkeypatch.setattr("mycelium.base.limits.BATCH_OBJECTS_MAX", 3)
    with objects.batch() as batch:
        digests = [batch.put(b"%d" % number) for number in range(7)]
        assert objects.missing(digests) == digests[6:]
    assert objects.missing(digests) == []


@pytest.fixture
def did(monkeypatch) -> list[str]:
    """What was made durable and named, in order."""
    did: list[str] = []
    fsync, rename = os.fsync, Path.rename
    monkeypatch.setattr(
        os, "fsync", lambda fd: (did.append(f"sync {Path(f'/proc/self/fd/{fd}').readlink()}"), fsync(fd))
    )
    monkeypatch.setattr(Path, "rename", lambda path, to: (did.append(f"name {to}"), rename(path, to)))
    return did


def test_every_object_is_synced_before_it_is_named_and_its_name_after(objects: DirectoryObjects, did: list[str]):
    digest = objects.put(b"durable")
    file = file_of(objects, digest)
    written, made, named, listed = did
    assert written.startswith(f"sync {objects.root}/tmp/")
    assert made == f"sync {objects.root}"
    assert named == f"name {file}"
    assert listed == f"sync {file.parent}"


def test_an_object_that_another_writer_has_just_named_is_answered_for_when_its_name_is_durable(
    objects: DirectoryObjects, did: list[str]
):
    file = file_of(objects, objects.put(b"durable"))
    did.clear()
    objects.put(b"durable")
    assert did == [f"sync {file.parent}"]


def test_an_object_that_was_named_long_ago_is_answered_for_at_once(tmp_path: Path, did: list[str]):
    later = DirectoryObjects(tmp_path / "objects", reserve_bytes=0, now_ns=lambda: 1 << 62)
    later.put(b"durable")
    did.clear()
    later.put(b"durable")
    assert did == []


def test_what_a_living_writer_is_writing_is_not_swept(objects: DirectoryObjects):
    with objects.begin() as writing:
        writing.write(b"slow")
        other = DirectoryObjects(objects.root, reserve_bytes=0)
        other.sweep(set(), older_than_ns=0, now_ns=1 << 62)
        digest = writing.commit()
    assert objects.read(digest) == b"slow"


def test_what_a_dead_writer_left_is_swept_when_the_store_is_opened(objects: DirectoryObjects):
    left = objects.root / "tmp" / "0123456789abcdef.99-1"
    left.write_bytes(b"half")
    DirectoryObjects(objects.root, reserve_bytes=0)
    assert list((objects.root / "tmp").iterdir()) == []


def test_bad_objects_are_swept_when_they_are_old(objects: DirectoryObjects):
    digest = objects.put(b"true")
    spoil(file_of(objects, digest), b"fake")
    with pytest.raises(Unavailable):
        objects.read(digest)
    objects.sweep(set(), older_than_ns=0, now_ns=1 << 62)
    assert list((objects.root / "bad").iterdir()) == []


def test_the_disk_keeps_its_reserve(tmp_path: Path):
    objects = DirectoryObjects(tmp_path / "objects", reserve_bytes=10**6 * TIB)
    with pytest.raises(Exhausted, match=r"has .* left; 1000000T are kept free"):
        objects.put(b"too much")
    assert temporary_files(objects) == []


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, Exhausted), (errno.EDQUOT, Exhausted), (errno.EIO, Unavailable)]
)
def test_a_disk_that_fails_when_asked_for_durability_keeps_nothing(objects, monkeypatch, number: int, kind: type):
    def fail(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(kind, match="could not store an object"):
        objects.put(b"lost")
    assert temporary_files(objects) == []
    assert not objects.has(digest_of(b"lost"))


def test_a_disk_that_fails_while_reading_is_unavailable(objects: DirectoryObjects, monkeypatch):
    digest = objects.put(b"lost")

    def fail(file: io.FileIO, buffer: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    class Failing(io.FileIO):
        readinto = fail

    monkeypatch.setattr("mycelium.store.directory.io.FileIO", Failing)
    with pytest.raises(Unavailable, match=r"could not read object .*: Input/output error"):
        objects.read(digest)


def test_a_store_that_cannot_be_made_is_unavailable(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable, match="could not open the object store"):
        DirectoryObjects(tmp_path / "file" / "objects")


def test_only_its_owner_may_look_into_a_store(objects: DirectoryObjects):
    digest = objects.put(b"secret")
    assert objects.root.stat().st_mode & 0o777 == 0o700
    assert file_of(objects, digest).stat().st_mode & 0o777 == 0o400


def test_threads_may_put_the_same_objects_at_once(objects: DirectoryObjects):
    datas = [b"%d" % number * 100 for number in range(20)]
    failures: list[BaseException] = []

    def put_all() -> None:
        try:
            for data in datas:
                objects.put(data)
                objects.put(io.BytesIO(data * 3000))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=put_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [objects.read(digest_of(data)) for data in datas] == datas
    assert temporary_files(objects) == []
