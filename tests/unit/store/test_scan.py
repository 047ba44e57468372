from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mycelium.base.errors import Conflict, Missing, Refused
from mycelium.base.units import S_NS
from mycelium.store.memory import MemoryObjects
from mycelium.store.objects import CHUNK_BYTES, digest_of
from mycelium.store.scan import scan, store_tree
from mycelium.store.tree import EntryKind, read_tree
from mycelium.store.unpack import unpack


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


def write(root: Path, **files: bytes | str) -> None:
    for name, data in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)


def paths(root: Path, **options) -> list[str]:
    return [entry.path for entry in scan(root, **options).tree.entries]


def test_a_directory_becomes_a_tree_and_a_directory_again(root: Path, tmp_path: Path):
    write(root, a="one", d__b="two", d__e__c=b"x" * (2 * CHUNK_BYTES + 1), copy="one")
    (root / "empty").mkdir()
    (root / "way").symlink_to("d/b")
    (root / "a").chmod(0o755)
    objects = MemoryObjects()
    scanned = scan(root)
    assert store_tree(objects, scanned) == scanned.digest
    unpack(objects, scanned.digest, tmp_path / "again")
    assert scan(tmp_path / "again").tree == scanned.tree == read_tree(objects, scanned.digest)
    kinds = {entry.path: entry.kind for entry in scanned.tree.entries}
    assert kinds == {
        "a": EntryKind.FILE,
        "copy": EntryKind.FILE,
        "d": EntryKind.DIR,
        "d/b": EntryKind.FILE,
        "d/e": EntryKind.DIR,
        "d/e/c": EntryKind.FILE,
        "empty": EntryKind.DIR,
        "way": EntryKind.LINK,
    }


def test_times_and_order_of_making_do_not_change_the_digest(tmp_path: Path):
    for name, order in (("one", "abc"), ("two", "cab")):
        for letter in order:
            write(tmp_path / name, **{letter: letter * 10})
    os.utime(tmp_path / "one" / "a", (1, 1))
    assert scan(tmp_path / "one").digest == scan(tmp_path / "two").digest


def test_only_what_is_missing_is_sent_the_tree_last(root: Path):
    write(root, a="one", b="two", c="two")
    objects = MemoryObjects()
    objects.put(b"one")
    scanned = scan(root)
    missing = objects.missing(scanned.digests())
    assert missing == [digest_of(b"two"), scanned.digest]
    items = scanned.items(missing)
    assert [(item.digest, item.size_bytes) for item in items] == [
        (digest_of(b"two"), 3),
        (scanned.digest, len(scanned.encoded)),
    ]
    assert [item.open().read() for item in items] == [b"two", scanned.encoded]
    store_tree(objects, scanned)
    assert scanned.items(objects.missing(scanned.digests())) == []


def test_git_and_what_it_ignores_stay_behind(root: Path):
    write(root, **{".gitignore": "*.log\nbuild/\n!keep.log\n", ".git__config": "x", "sub__.git": "gitdir: elsewhere"})
    write(root, **{"a.log": "", "keep.log": "", "build__x": "", "sub__build": "", "sub__a.log": ""})
    assert paths(root) == [".gitignore", "keep.log", "sub", "sub/build"]
    everything = paths(root, ignore=False)
    assert "a.log" in everything
    assert "build/x" in everything
    assert not any(".git" in path.split("/") for path in everything)


def test_a_deeper_gitignore_outweighs_a_higher_one(root: Path):
    write(root, **{".gitignore": "*.csv\n/top\n", "d__.gitignore": "!*.csv\nraw.csv\n", "d__top": ""})
    write(root, **{"x.csv": "", "top": "", "d__x.csv": "", "d__raw.csv": "", "d__e__raw.csv": ""})
    assert paths(root) == [".gitignore", "d", "d/.gitignore", "d/e", "d/top", "d/x.csv"]


def test_a_file_below_an_ignored_directory_cannot_be_taken_back(root: Path):
    write(root, **{".gitignore": "out/\n!out/keep\n", "out__keep": "", "out__.gitignore": "!keep"})
    assert paths(root) == [".gitignore"]


def test_the_repository_above_the_working_directory_has_its_say(tmp_path: Path):
    write(
        tmp_path,
        **{".git__info__exclude": "mine\n", ".gitignore": "*.log\n/sub/data\n/data\n", "sub__.gitignore": "tmp\n"},
    )
    write(tmp_path, **{"sub__a.log": "", "sub__data": "", "sub__d__data": "", "sub__mine": "", "sub__d__tmp": ""})
    assert paths(tmp_path / "sub") == [".gitignore", "d", "d/data"]
    assert paths(tmp_path / "sub" / "d") == ["data"]


def test_a_working_directory_that_is_itself_ignored_is_taken(tmp_path: Path):
    write(tmp_path, **{".git__HEAD": "", ".gitignore": "build/\n*.o\n", "build__x__main.o": "", "build__x__y": ""})
    assert paths(tmp_path / "build" / "x") == ["main.o", "y"]


def test_a_gitignore_with_nonsense_in_it_still_counts(root: Path):
    (root / ".gitignore").write_bytes(b"\xef\xbb\xbf*.a\n!\n//\n[\n\xff\xfe\n*.b\n")
    write(root, **{"x.a": "", "x.b": "", "x.c": ""})
    assert paths(root) == [".gitignore", "x.c"]


def test_a_directory_above_the_bound_is_refused_with_sum_bound_and_what_is_largest(root: Path):
    write(root, data__a=b"x" * 3000, data__b=b"x" * 3000, model=b"x" * 4096, small=b"x", src__main="x" * 100)
    with pytest.raises(
        Refused, match=r"holds 10K; at most 8K are uploaded; the largest: data/ 5\.9K, model 4K, src/ 100B"
    ) as told:
        scan(root, bytes_max=8192)
    assert ".gitignore" in told.value.hint
    write(root, **{".gitignore": "data/"})
    assert scan(root, bytes_max=8192).size_bytes == 4096 + 1 + 100 + 5


def test_a_directory_with_too_many_entries_is_refused(root: Path):
    write(root, a="", b="", c="")
    with pytest.raises(Refused, match="more than 2 entries"):
        scan(root, entries_max=2)
    assert len(scan(root, entries_max=3).tree.entries) == 3


def test_special_files_and_names_that_are_no_text_are_reported(root: Path):
    os.mkfifo(root / "fifo")
    os.mknod(root / "socket", stat.S_IFSOCK | 0o600)
    (root / os.fsdecode(b"caf\xe9")).write_bytes(b"")
    (root / "odd").symlink_to(os.fsdecode(b"\xff"))
    write(root, a="")
    scanned = scan(root)
    assert [entry.path for entry in scanned.tree.entries] == ["a"]
    assert {str(skipped) for skipped in scanned.skipped} == {
        "fifo: is a fifo",
        "socket: is a socket",
        "caf\\udce9: has a name that is not UTF-8",
        "odd: is a link to a name that is not UTF-8",
    }


def test_links_are_kept_and_never_followed(root: Path, tmp_path: Path):
    write(tmp_path, outside__secret="secret")
    (root / "dir").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to(".")
    (root / "nowhere").symlink_to("gone")
    scanned = scan(root)
    assert [(entry.path, entry.kind) for entry in scanned.tree.entries] == [
        ("dir", EntryKind.LINK),
        ("loop", EntryKind.LINK),
        ("nowhere", EntryKind.LINK),
    ]


def test_a_file_that_changes_after_the_scan_is_a_conflict(root: Path):
    write(root, a="before", b="before too")
    scanned = scan(root)
    write(root, a="afterr")
    (root / "b").unlink()
    for item in scanned.items(scanned.digests())[:2]:
        with pytest.raises(Conflict, match="changed while it was sent"):
            item.open().read()


def test_a_working_directory_that_is_not_there_is_missing(tmp_path: Path):
    with pytest.raises(Missing, match="is not a directory"):
        scan(tmp_path / "nowhere")


LATER_NS = 1 << 62


def test_a_file_that_did_not_change_is_not_read_again(root: Path, tmp_path: Path, monkeypatch):
    write(root, a="one", d__b="two")
    first = scan(root, cache=tmp_path / "cache", now_ns=LATER_NS)
    monkeypatch.setattr("mycelium.store.scan._hash", None)
    assert scan(root, cache=tmp_path / "cache", now_ns=LATER_NS).tree == first.tree


@pytest.mark.parametrize("change", ["content", "touch", "swap"])
def test_a_file_that_changed_is_read_again(root: Path, tmp_path: Path, change: str):
    write(root, a="one", b="two")
    first = scan(root, cache=tmp_path / "cache", now_ns=LATER_NS)
    before = (root / "a").stat()
    if change == "content":
        write(root, a="eno")
        os.utime(root / "a", ns=(before.st_atime_ns, before.st_mtime_ns))  # as rsync and tar do
    elif change == "swap":
        (root / "a").rename(root / "c")
        (root / "b").rename(root / "a")
        (root / "c").rename(root / "b")
    else:
        os.utime(root / "a")
    second = scan(root, cache=tmp_path / "cache", now_ns=LATER_NS)
    assert second.tree == scan(root).tree
    assert (second.tree == first.tree) is (change == "touch")


def test_a_file_that_changed_just_now_is_not_remembered(root: Path, tmp_path: Path, monkeypatch):
    write(root, a="one")
    changed_ns = (root / "a").stat().st_mtime_ns
    scan(root, cache=tmp_path / "cache", now_ns=changed_ns + S_NS)
    monkeypatch.setattr("mycelium.store.scan._hash", None)
    with pytest.raises(TypeError):  # it has to be read
        scan(root, cache=tmp_path / "cache", now_ns=changed_ns + S_NS)


@pytest.mark.parametrize("broken", [b"", b"\xc1", b"\x82\xa7version\x02\xa5files\x80", b"x" * 1000])
def test_a_broken_cache_is_an_empty_one(root: Path, tmp_path: Path, broken: bytes):
    write(root, a="one")
    (tmp_path / "cache").write_bytes(broken)
    assert scan(root, cache=tmp_path / "cache").tree == scan(root).tree


def test_a_cache_that_cannot_be_written_does_no_harm(root: Path, tmp_path: Path):
    write(root, a="one")
    (tmp_path / "file").write_bytes(b"")
    assert scan(root, cache=tmp_path / "file" / "cache", now_ns=LATER_NS).tree == scan(root).tree


def test_a_cache_that_lied_is_forgotten(root: Path, tmp_path: Path):
    write(root, a="one")
    cache = tmp_path / "cache"
    scan(root, cache=cache, now_ns=LATER_NS)
    cache.write_bytes(cache.read_bytes().replace(digest_of(b"one").encode(), digest_of(b"two").encode()))
    lied = scan(root, cache=cache, now_ns=LATER_NS)
    with pytest.raises(Conflict, match="a changed while it was sent"):
        lied.items(lied.digests())[0].open().read()
    assert scan(root, cache=cache, now_ns=LATER_NS).tree == scan(root).tree != lied.tree
