from __future__ import annotations

import os
from pathlib import Path

import pytest

from mycelium.base.errors import Refused, Unavailable
from mycelium.store.below import Below
from mycelium.store.collect import collect
from mycelium.store.memory import MemoryObjects
from mycelium.store.objects import CHUNK_BYTES, digest_of
from mycelium.store.survey import Skipped
from mycelium.store.tree import EntryKind, read_tree


@pytest.fixture
def objects() -> MemoryObjects:
    return MemoryObjects()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "step"
    for name in ("a.csv", "b.txt", "out/a.csv", "out/deep/b.csv", "out/.hidden", ".secret/c.csv", "other/x"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def collected(root: Path, objects: MemoryObjects, *globs: str, **options) -> list[str]:
    digest = collect(root, globs, objects, **options)
    return [] if digest is None else [entry.path for entry in read_tree(objects, digest).entries]


@pytest.mark.parametrize(
    ("globs", "paths"),
    [
        (["*.csv"], ["a.csv"]),
        (["a.csv", "./b.txt", "a*"], ["a.csv", "b.txt"]),
        (["out/*.csv"], ["out", "out/a.csv"]),
        (["**/*.csv"], ["a.csv", "out", "out/a.csv", "out/deep", "out/deep/b.csv"]),
        (["**/deep"], ["out", "out/deep", "out/deep/b.csv"]),
        (["out"], ["out", "out/.hidden", "out/a.csv", "out/deep", "out/deep/b.csv"]),
        (["out/"], ["out", "out/.hidden", "out/a.csv", "out/deep", "out/deep/b.csv"]),
        (["out/**"], ["out", "out/.hidden", "out/a.csv", "out/deep", "out/deep/b.csv"]),
        (["out/**/*.csv"], ["out", "out/a.csv", "out/deep", "out/deep/b.csv"]),
        (["out/**/**/b.csv"], ["out", "out/deep", "out/deep/b.csv"]),
        ([".sec*/*"], [".secret", ".secret/c.csv"]),
        (["?.txt", "[ab].csv"], ["a.csv", "b.txt"]),
        (["*/x"], ["other", "other/x"]),
        (["*.nothing"], []),
        ([], []),
    ],
)
def test_outputs_are_what_the_globs_mean(root: Path, objects: MemoryObjects, globs: list[str], paths: list[str]):
    assert collected(root, objects, *globs) == paths


@pytest.mark.parametrize("glob", [".", "**", "./"])
def test_the_whole_directory_may_be_meant(root: Path, objects: MemoryObjects, glob: str):
    everything = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    assert collected(root, objects, glob) == everything


@pytest.mark.parametrize("glob", ["/etc/passwd", "../x", "out/../../x", "", "a\0b"])
def test_a_glob_that_leads_out_is_refused(root: Path, objects: MemoryObjects, glob: str):
    with pytest.raises(Refused, match="outputs"):
        collect(root, [glob], objects)


def test_too_many_globs_are_refused(root: Path, objects: MemoryObjects):
    with pytest.raises(Refused, match="outputs has 33 globs; at most 32 are allowed"):
        collect(root, ["*"] * 33, objects)


def test_what_was_collected_is_stored(root: Path, objects: MemoryObjects):
    long = b"x" * (2 * CHUNK_BYTES + 7)
    (root / "long").write_bytes(long)
    (root / "long").chmod(0o755)
    digest = collect(root, ["long", "a.csv"], objects)
    assert digest is not None
    small, large = read_tree(objects, digest).entries
    assert objects.read(digest_of(b"a.csv")) == b"a.csv"
    assert (large.executable, small.executable) == (True, False)
    assert objects.read(digest_of(long)) == long


def test_links_are_kept_as_links_and_what_they_lead_to_is_not(root: Path, objects: MemoryObjects, tmp_path: Path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "shadow").write_bytes(b"secret")
    (root / "out" / "dir").symlink_to(tmp_path / "outside")
    (root / "out" / "file").symlink_to(tmp_path / "outside" / "shadow")
    (root / "linked").symlink_to("out")
    digest = collect(root, ["out/dir/*", "out/d*", "out/file", "linked/*"], objects)
    assert digest is not None
    entries = {entry.path: entry for entry in read_tree(objects, digest).entries}
    assert entries["out/dir"].kind is entries["out/file"].kind is EntryKind.LINK
    assert set(entries) == {"out", "out/deep", "out/deep/b.csv", "out/dir", "out/file"}
    assert not objects.has(digest_of(b"secret"))


def test_outputs_above_the_bound_are_refused_and_not_kept(root: Path, objects: MemoryObjects):
    (root / "out" / "large").write_bytes(b"x" * 5000)
    with pytest.raises(
        Refused, match=r"the outputs hold 4\.9K; at most 4K are kept; the largest: out/ 4\.9K, a\.csv 5B"
    ):
        collect(root, ["out", "*.csv"], objects, bytes_max=4096)
    assert not objects.has(digest_of(b"x" * 5000))


def test_a_step_that_made_too_many_files_is_refused(root: Path, objects: MemoryObjects):
    with pytest.raises(Refused, match="more than 5 entries"):
        collect(root, ["**"], objects, entries_max=5)


def test_directories_that_cannot_hold_a_match_are_not_counted(root: Path, objects: MemoryObjects):
    assert collected(root, objects, "a.csv", entries_max=5) == ["a.csv"]


def test_what_cannot_be_kept_is_told(root: Path, objects: MemoryObjects):
    os.mkfifo(root / "out" / "fifo")
    told: list[Skipped] = []
    assert "out/fifo" not in collected(root, objects, "out", tell=told.append)
    assert [str(skipped) for skipped in told] == ["out/fifo: is a fifo"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_files_of_somebody_else_are_left_out(root: Path, objects: MemoryObjects):
    os.chown(root / "a.csv", 12345, 12345)
    told: list[Skipped] = []
    assert collected(root, objects, "*.csv", "b.txt", uid=12345, tell=told.append) == ["a.csv"]
    assert [str(skipped) for skipped in told] == ["b.txt: belongs to somebody else"]


class Meddling:
    """A stranger who changes things between the walk and the reading."""

    def __init__(self, monkeypatch, meddle) -> None:
        def open_file(below: Below, path: str, original=Below.open_file) -> int:
            meddle(path)
            return original(below, path)

        monkeypatch.setattr(Below, "open_file", open_file)


def test_a_file_that_became_a_link_is_not_read(root: Path, objects: MemoryObjects, tmp_path: Path, monkeypatch):
    (tmp_path / "shadow").write_bytes(b"secret")

    def meddle(path: str) -> None:
        (root / path).unlink()
        (root / path).symlink_to(tmp_path / "shadow")

    Meddling(monkeypatch, meddle)
    told: list[Skipped] = []
    assert collected(root, objects, "a.csv", tell=told.append) == []
    assert [skipped.path for skipped in told] == ["a.csv"]
    assert not objects.has(digest_of(b"secret"))


def test_a_directory_that_became_a_link_is_not_entered(root: Path, objects: MemoryObjects, tmp_path: Path, monkeypatch):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "x").write_bytes(b"secret")
    (root / "zzz").mkdir()
    (root / "zzz" / "last").write_bytes(b"")

    def meddle(path: str) -> None:
        if path == "a.csv":
            (root / "other").rename(root / "moved")
            (root / "other").symlink_to(tmp_path / "etc")

    Meddling(monkeypatch, meddle)
    assert collected(root, objects, "a.csv", "other/x", "zzz/last") == ["a.csv", "zzz", "zzz/last"]
    assert not objects.has(digest_of(b"secret"))


def test_a_file_that_became_a_fifo_does_not_make_the_reader_wait(root: Path, objects: MemoryObjects, monkeypatch):
    def meddle(path: str) -> None:
        (root / path).unlink()
        os.mkfifo(root / path)

    Meddling(monkeypatch, meddle)
    assert collected(root, objects, "a.csv") == []


def test_a_file_that_shrinks_or_grows_is_kept_as_it_was_read(root: Path, objects: MemoryObjects, monkeypatch):
    Meddling(monkeypatch, lambda path: (root / path).write_text("other"))
    digest = collect(root, ["b.txt"], objects)
    assert digest is not None
    (entry,) = read_tree(objects, digest).entries
    assert (entry.size_bytes, entry.digest) == (5, digest_of(b"other"))


def test_a_file_that_grows_beyond_the_bound_is_refused(root: Path, objects: MemoryObjects, monkeypatch):
    Meddling(monkeypatch, lambda path: (root / path).write_bytes(b"x" * 5000))
    with pytest.raises(Refused, match=r"a\.csv grew while it was collected: 4K were left for it"):
        collect(root, ["a.csv"], objects, bytes_max=4096)


def test_a_directory_that_is_gone_is_unavailable(tmp_path: Path, objects: MemoryObjects):
    with pytest.raises(Unavailable, match="could not collect the outputs"):
        collect(tmp_path / "gone", ["*"], objects)
