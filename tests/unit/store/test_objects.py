"""What every store of objects promises, whatever it is made of."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from mycelium.base.errors import Missing, Refused
from mycelium.base.ids import Digest
from mycelium.base.units import S_NS
from mycelium.store.directory import DirectoryObjects
from mycelium.store.memory import MemoryObjects
from mycelium.store.objects import CHUNK_BYTES, Objects, digest_of

NOW_NS = 1_800_000_000 * S_NS
HOUR_NS = 3600 * S_NS
OBJECT_BYTES_MAX = 2 << 20
ABSENT = Digest("0" * 64)


class Now:
    def __init__(self) -> None:
        self.ns = NOW_NS

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture(params=["directory", "memory"])
def objects(request, tmp_path, now) -> Objects:
    if request.param == "memory":
        return MemoryObjects(object_bytes_max=OBJECT_BYTES_MAX, now_ns=now)
    return DirectoryObjects(tmp_path / "objects", object_bytes_max=OBJECT_BYTES_MAX, reserve_bytes=0, now_ns=now)


class Trickle(io.BytesIO):
    """A stream that gives a byte at a time."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(0 if size == 0 else 1)


SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("wrap", [bytes, io.BytesIO], ids=["bytes", "stream"])
def test_what_was_put_is_read_back_under_the_hash_of_its_bytes(objects: Objects, size: int, wrap: Callable):
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    digest = objects.put(wrap(data))
    assert digest == digest_of(data)
    assert objects.read(digest) == data
    assert objects.size(digest) == size
    with objects.open(digest) as opened:
        assert b"".join(iter(lambda: opened.read(1000), b"")) == data


def test_a_stream_that_trickles_is_put_whole(objects: Objects):
    assert objects.read(objects.put(Trickle(b"slow but steady"))) == b"slow but steady"


@pytest.mark.parametrize("data", [b"these", b"these" * CHUNK_BYTES], ids=["small", "large"])
@pytest.mark.parametrize("wrap", [bytes, io.BytesIO], ids=["bytes", "stream"])
def test_bytes_that_are_not_the_expected_ones_are_refused_and_not_kept(objects: Objects, data: bytes, wrap: Callable):
    other = digest_of(b"other")
    with pytest.raises(Refused, match="not of"):
        objects.put(wrap(data), expected=other)
    assert objects.missing([other, digest_of(data)]) == [other, digest_of(data)]


@pytest.mark.parametrize("wrap", [bytes, io.BytesIO], ids=["bytes", "stream"])
def test_an_object_above_the_bound_is_refused_and_not_kept(objects: Objects, wrap: Callable):
    data = b"x" * (OBJECT_BYTES_MAX + 1)
    with pytest.raises(Refused, match="larger than 2M"):
        objects.put(wrap(data))
    assert not objects.has(digest_of(data))


def test_missing_names_each_absent_object_once_and_in_order(objects: Objects):
    here, other = objects.put(b"here"), digest_of(b"other")
    assert objects.missing([other, here, ABSENT, other]) == [other, ABSENT]
    assert objects.has(here)
    assert not objects.has(other)


def test_an_absent_object_is_missing_by_name(objects: Objects):
    for ask in (objects.read, objects.open, objects.size):
        with pytest.raises(Missing, match="object 000000000000 is not here"):
            ask(ABSENT)
    objects.delete(ABSENT)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n", "0/" * 32])
def test_what_is_no_digest_is_refused_by_every_door(objects: Objects, name: str):
    asks = (objects.has, objects.read, objects.open, objects.size, objects.delete, objects.begin)
    for ask in (*asks, lambda digest: objects.missing([digest])):
        with pytest.raises(Refused, match="is not the name of an object"):
            ask(Digest(name))


def test_a_large_object_is_not_read_into_memory_at_once(objects: Objects):
    digest = objects.put(b"x" * 1000)
    assert objects.read(digest, bytes_max=1000)
    with pytest.raises(Refused, match="has 1000B; at most 999B are read at once"):
        objects.read(digest, bytes_max=999)


def test_a_deleted_object_is_missing_and_may_be_put_again(objects: Objects):
    digest = objects.put(b"again")
    objects.delete(digest)
    assert objects.missing([digest]) == [digest]
    assert objects.read(objects.put(b"again")) == b"again"


def test_a_writing_that_ends_without_commit_keeps_nothing(objects: Objects):
    with objects.begin() as writing:
        writing.write(b"half of")
    with pytest.raises(ZeroDivisionError), objects.begin() as writing:
        writing.write(b"half of")
        raise ZeroDivisionError
    assert not objects.has(digest_of(b"half of"))


def test_a_writing_takes_pieces(objects: Objects):
    with objects.begin(digest_of(b"one two")) as writing:
        writing.write(b"one")
        writing.write(memoryview(b" two"))
        digest = writing.commit()
    assert objects.read(digest) == b"one two"


def test_a_batch_has_put_everything_when_it_ends(objects: Objects):
    with objects.batch() as batch:
        digests = [batch.put(b"%d" % number) for number in range(100)]
        digests += [batch.put(io.BytesIO(b"5"))]
        with batch.begin() as writing:
            writing.write(b"piece")
            digests.append(writing.commit())
    assert objects.missing(digests) == []
    assert [objects.read(digest) for digest in digests[-3:]] == [b"99", b"5", b"piece"]


def test_a_sweep_removes_what_is_neither_live_nor_young(objects: Objects, now: Now):
    live, dead = objects.put(b"live"), objects.put(b"dead")
    now.ns += HOUR_NS
    young = objects.put(b"young")
    swept = objects.sweep({live}, older_than_ns=HOUR_NS // 2, now_ns=now.ns)
    assert (swept.removed, swept.removed_bytes) == (1, 4)
    assert objects.missing([live, dead, young]) == [dead]


def test_a_sweep_asks_a_function_what_is_live(objects: Objects, now: Now):
    live, dead = objects.put(b"live"), objects.put(b"dead")
    objects.sweep(lambda digest: digest == live, older_than_ns=0, now_ns=now.ns + 1)
    assert objects.missing([live, dead]) == [dead]


@pytest.mark.parametrize(
    "ask",
    [
        lambda objects, digest: objects.has(digest),
        lambda objects, digest: objects.missing([digest]),
        lambda objects, digest: objects.put(b"wanted"),
        lambda objects, digest: objects.put(io.BytesIO(b"wanted")),
    ],
    ids=["has", "missing", "put", "put-stream"],
)
def test_what_was_just_asked_for_is_young_again(objects: Objects, now: Now, ask: Callable):
    digest = objects.put(b"wanted")
    now.ns += HOUR_NS
    ask(objects, digest)
    objects.sweep(set(), older_than_ns=HOUR_NS // 2, now_ns=now.ns)
    assert objects.read(digest) == b"wanted"


def test_a_clock_that_went_back_removes_nothing(objects: Objects, now: Now):
    digest = objects.put(b"from the future")
    objects.sweep(set(), older_than_ns=0, now_ns=now.ns - HOUR_NS)
    assert objects.has(digest)
