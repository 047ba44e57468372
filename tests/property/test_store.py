"""Laws of the store: what goes in comes out, and no bytes whatever get out of their directory or crash the reader."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mycelium.base.errors import Problem, Refused
from mycelium.base.ids import Digest
from mycelium.store.collect import collect
from mycelium.store.globs import Globs
from mycelium.store.memory import MemoryObjects
from mycelium.store.objects import digest_of
from mycelium.store.pack import Item, decode, encode
from mycelium.store.scan import scan, store_tree
from mycelium.store.tree import EntryKind, Tree, TreeEntry, decode_tree, encode_tree, tree_of
from mycelium.store.unpack import unpack

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..", ".git", ".gitignore")
)
DATA = st.binary(max_size=50)


@contextmanager
def directory() -> Iterator[Path]:
    """Hypothesis runs many examples in one test: each gets a directory of its own."""
    made = Path(tempfile.mkdtemp())
    try:
        yield made
    finally:
        shutil.rmtree(made)


Content = dict[str, "bytes | str | Content"]  # a file's bytes, a link's target, a directory's content
CONTENTS: st.SearchStrategy[Content] = st.recursive(
    st.dictionaries(NAMES, DATA | NAMES, max_size=4),
    lambda inner: st.dictionaries(NAMES, DATA | NAMES | inner, max_size=4),
    max_leaves=12,
)


def make(content: Content, at: Path) -> None:
    at.mkdir(exist_ok=True)
    for name, inner in content.items():
        if isinstance(inner, bytes):
            (at / name).write_bytes(inner)
        elif isinstance(inner, str):
            (at / name).symlink_to(inner)
        else:
            make(inner, at / name)


@given(CONTENTS)
@settings(max_examples=60, deadline=None)
def test_a_directory_survives_scan_store_unpack_and_collect(content: Content):
    with directory() as around:
        make(content, around / "one")
        objects = MemoryObjects()
        scanned = scan(around / "one")
        unpack(objects, store_tree(objects, scanned), around / "two", links_out=False)
        assert scan(around / "two").tree == scanned.tree
        assert collect(around / "two", ["**"], objects) == (scanned.digest if content else None)
        assert decode_tree(scanned.encoded) == scanned.tree


@given(st.lists(DATA, max_size=20), st.lists(st.integers(1, 200), min_size=1, max_size=10))
@settings(deadline=None)
def test_a_pack_decodes_to_what_was_encoded_however_it_is_cut(datas: list[bytes], sizes: list[int]):
    items = [Item(digest_of(data), len(data), lambda data=data: io.BytesIO(data)) for data in datas]
    packed = b"".join(encode(items))
    pieces, at = [], 0
    while at < len(packed):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(packed[at : at + size])
        at += size
    objects = MemoryObjects()
    assert decode(pieces, objects) == [digest_of(data) for data in datas]
    assert [objects.read(digest_of(data)) for data in datas] == datas


@given(st.lists(DATA, min_size=1, max_size=5), st.data())
@settings(deadline=None)
def test_a_pack_that_was_damaged_is_refused_and_stores_only_true_objects(datas: list[bytes], draw: st.DataObject):
    items = [Item(digest_of(data), len(data), lambda data=data: io.BytesIO(data)) for data in datas]
    packed = bytearray(b"".join(encode(items)))
    at = draw.draw(st.integers(0, len(packed) - 1))
    if draw.draw(st.booleans()):
        packed[at] ^= draw.draw(st.integers(1, 255))
    else:
        del packed[at:]
    objects = MemoryObjects()
    with pytest.raises(Refused):
        decode([bytes(packed)], objects)
    assert objects.sweep({digest_of(data) for data in datas}, 0, 1 << 62).removed == 0


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_no_bytes_crash_the_readers(data: bytes):
    for read in (lambda: decode_tree(data), lambda: decode([b"MYCPACK1", data], MemoryObjects())):
        with suppress(Refused):
            read()


# Paths that try to get out, through the root, through links that the tree itself plants, through odd spellings.
PARTS = st.sampled_from(["a", "b", "..", ".", "", "link", "x" * 256, "\0"])
HOSTILE_PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join) | st.just("/tmp/evil") | st.text(max_size=5)
HOSTILE_ENTRIES = st.builds(
    TreeEntry,
    path=HOSTILE_PATHS,
    kind=st.sampled_from(EntryKind),
    size_bytes=st.sampled_from([0, 4, -1, 1 << 70]),
    executable=st.booleans(),
    digest=st.sampled_from([None, digest_of(b"data"), digest_of(b"absent"), Digest("../evil")]),
    target=st.sampled_from(["", "..", "../..", "/", "a", "link", "."]),
)


def mended(entry: TreeEntry) -> TreeEntry:
    """The same path, with the rest as it should be: so that paths are tried and not only the rest refused."""
    if entry.kind is EntryKind.FILE:
        return TreeEntry(entry.path, EntryKind.FILE, 4, entry.executable, digest_of(b"data"))
    return TreeEntry(entry.path, entry.kind, target=(entry.target or "..") if entry.kind is EntryKind.LINK else "")


@given(st.lists(HOSTILE_ENTRIES | HOSTILE_ENTRIES.map(mended), max_size=6), st.booleans(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_no_tree_writes_outside_its_directory(entries: list[TreeEntry], in_order: bool, planted: bool):
    objects = MemoryObjects()
    objects.put(b"data")
    try:
        data = encode_tree(tree_of(entries) if in_order else Tree(1, tuple(entries)))
    except (UnicodeEncodeError, OverflowError):
        assume(False)
        return
    with directory() as around:
        outside = around / "outside"
        outside.mkdir()
        into = around / "into"
        into.mkdir()
        if planted:
            (into / "a").symlink_to(outside)
            (into / "link").symlink_to(outside)
        with suppress(Problem):
            unpack(objects, objects.put(data), into, replace=True)
        assert sorted(around.iterdir()) == [into, outside]
        assert list(outside.iterdir()) == []


GLOB_PARTS = st.sampled_from(["*", "**", "?", "a*", "[!a]", ".*"]) | NAMES


@given(CONTENTS, st.lists(st.lists(GLOB_PARTS, min_size=1, max_size=3), max_size=8))
@settings(max_examples=60, deadline=None)
def test_globs_mean_the_same_with_and_without_pruning(content: Content, globs: list[list[str]]):
    texts = [text for parts in globs if not (text := "/".join(parts)).startswith("/")]
    with directory() as around:
        make(content, around / "root")
        objects = MemoryObjects()
        found = collect(around / "root", texts, objects)
        got = {entry.path for entry in decode_tree(objects.read(found)).entries} if found else set()
        wanted = {path for path in _all_paths(content) if _is_meant(Globs(texts), path)}
        assert got == wanted | {parent for path in wanted for parent in _parents(path)}


def _all_paths(content: Content, above: str = "") -> Iterator[str]:
    for name, inner in content.items():
        yield above + name
        if isinstance(inner, dict):
            yield from _all_paths(inner, f"{above}{name}/")


def _is_meant(globs: Globs, path: str) -> bool:
    state = globs.start()
    meant = globs.matches(state)
    for name in path.split("/"):
        state = globs.step(state, name)
        meant = meant or globs.matches(state)
    return meant


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
