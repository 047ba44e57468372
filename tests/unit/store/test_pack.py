from __future__ import annotations

import io
from collections.abc import Iterable

import pytest

from mycelium.base.errors import Conflict, Refused
from mycelium.store.memory import MemoryObjects
from mycelium.store.objects import CHUNK_BYTES, digest_of
from mycelium.store.pack import MAGIC, Item, batches, decode, encode

SMALL, LARGE = b"small", b"large" * CHUNK_BYTES
END = bytes(32)


def item(data: bytes) -> Item:
    return Item(digest_of(data), len(data), lambda: io.BytesIO(data))


def frame(data: bytes, length: int | None = None) -> bytes:
    return bytes.fromhex(digest_of(data)) + (len(data) if length is None else length).to_bytes(8, "big") + data


def end(count: int) -> bytes:
    return END + count.to_bytes(8, "big")


def in_pieces(data: bytes, size: int) -> Iterable[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def test_the_format_is_fixed():
    assert b"".join(encode([item(b"x"), item(b"")])) == MAGIC + frame(b"x") + frame(b"") + end(2)
    assert b"".join(encode([])) == MAGIC + end(0)


@pytest.mark.parametrize("size", [1, 7, 40, 1000, CHUNK_BYTES, 1 << 30])
def test_a_pack_is_read_however_it_is_cut(size: int):
    objects = MemoryObjects()
    middle = b"m" * 3000
    data = b"".join(encode([item(SMALL), item(b""), item(middle), item(SMALL)]))
    assert decode(in_pieces(data, size), objects) == [digest_of(each) for each in (SMALL, b"", middle, SMALL)]
    assert [objects.read(digest_of(each)) for each in (SMALL, b"", middle)] == [SMALL, b"", middle]


def test_large_objects_come_in_chunks_and_small_ones_together():
    chunks = list(encode([item(SMALL)] * 100 + [item(LARGE)]))
    assert max(map(len, chunks)) < 2 * CHUNK_BYTES
    assert min(map(len, chunks[:-1])) >= CHUNK_BYTES
    objects = MemoryObjects()
    decode(chunks, objects)
    assert objects.read(digest_of(LARGE)) == LARGE


def test_a_pack_goes_from_store_to_store():
    one, two = MemoryObjects(), MemoryObjects()
    digests = [one.put(SMALL), one.put(LARGE)]
    items = [Item(digest, one.size(digest), lambda digest=digest: one.open(digest)) for digest in digests]
    decode(encode(items), two)
    assert two.missing(digests) == []


@pytest.mark.parametrize("size", [4, 6])
def test_an_object_that_is_not_as_long_as_was_said_is_a_conflict(size: int):
    lying = Item(digest_of(SMALL), size, lambda: io.BytesIO(SMALL))
    with pytest.raises(Conflict, match=r"is not \dB long any more"):
        list(encode([lying]))


GOOD = MAGIC + frame(SMALL) + end(1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut off after 0 objects"),
        (MAGIC, "cut off"),
        (b"GET / HTTP/1.1", "are not a pack"),
        (GOOD[:-1], "cut off after 1 objects"),
        (GOOD[: len(MAGIC) + 42], "cut off after 0 objects"),
        (GOOD + b"x", "goes on after its end"),
        (GOOD + GOOD, "goes on after its end"),
        (MAGIC + frame(SMALL) + end(2), "says that it has 2 objects; 1 came"),
        (MAGIC + end(1), "says that it has 1 objects; 0 came"),
        (MAGIC + frame(SMALL, 1 << 62), "more than 16G of objects"),
        (MAGIC + frame(SMALL, (1 << 64) - 1), "more than 16G of objects"),
        (MAGIC + frame(SMALL, 4) + end(1), "are those of object"),
        (MAGIC + bytes.fromhex(digest_of(b"other")) + frame(SMALL)[32:] + end(1), "are those of object"),
    ],
)
@pytest.mark.parametrize("size", [1, 1 << 30])
def test_bytes_that_are_no_pack_are_refused(data: bytes, message: str, size: int):
    with pytest.raises(Refused, match=message):
        decode(in_pieces(data, size), MemoryObjects())


def test_a_pack_may_have_no_more_bytes_or_objects_than_allowed():
    data = b"".join(encode([item(b"12345"), item(b"67890")]))
    assert len(decode([data], MemoryObjects(), bytes_max=10, count_max=2)) == 2
    with pytest.raises(Refused, match="more than 9B of objects"):
        decode([data], MemoryObjects(), bytes_max=9)
    with pytest.raises(Refused, match="more than 1 objects"):
        decode([data], MemoryObjects(), count_max=1)


def test_items_are_grouped_into_packs_of_about_one_size_and_keep_their_order():
    items = [item(b"a" * 30), item(b"b" * 30), item(b"c" * 200), item(b""), item(b"d" * 99)]
    grouped = list(batches(items, bytes_max=100 + 2 * 40))
    assert [len(group) for group in grouped] == [2, 1, 2]
    assert [each for group in grouped for each in group] == items
    assert list(batches([])) == []


def test_a_pack_holds_no_more_objects_than_its_reader_takes(monkeypatch):
    monkeypatch.setattr("mycelium.base.limits.PACK_OBJECTS_MAX", 2)
    assert [len(group) for group in batches([item(b"")] * 5)] == [2, 2, 1]
