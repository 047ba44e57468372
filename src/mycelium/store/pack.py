"""Many objects in one stream, such as the body of one HTTP request.

    pack  = "MYCPACK1" frame* end
    frame = digest (32 bytes) length (8 bytes, big endian) data (length bytes)
    end   = 32 zero bytes, number of frames (8 bytes, big endian)

The end lets a reader tell a whole pack from one that was cut off. Objects come in the order in which they have to
be there: files before the tree that names them.

Never: holds more of an object in memory than one chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import BinaryIO, Self

from msgspec import Struct

from mycelium.base import limits
from mycelium.base.errors import Conflict, Refused
from mycelium.base.ids import Digest
from mycelium.base.units import format_size
from mycelium.store.objects import CHUNK_BYTES, Objects, Puts, Writing

MAGIC = b"MYCPACK1"
_HEAD_BYTES = 40
_END = bytes(32)


class Item(Struct, frozen=True):
    """An object to be sent: opened only when its turn comes, so that ten thousand need no ten thousand open files."""

    digest: Digest
    size_bytes: int
    open: Callable[[], BinaryIO]


def batches(items: Iterable[Item], bytes_max: int = limits.OBJECT_BATCH_BYTES) -> Iterator[list[Item]]:
    """Items in packs of about `bytes_max`, in order; a larger one travels alone."""
    batch: list[Item] = []
    batch_bytes = 0
    for item in items:
        full = batch_bytes + item.size_bytes > bytes_max or len(batch) >= limits.PACK_OBJECTS_MAX
        if batch and full:
            yield batch
            batch, batch_bytes = [], 0
        batch.append(item)
        batch_bytes += item.size_bytes + _HEAD_BYTES
    if batch:
        yield batch


def encode(items: Iterable[Item]) -> Iterator[bytes]:
    """The pack in chunks of `CHUNK_BYTES` and more.

    Errors: `Conflict` when an object turns out to be longer or shorter than its item says.
    """
    waiting = bytearray(MAGIC)
    count = 0
    for item in items:
        count += 1
        waiting += bytes.fromhex(item.digest) + item.size_bytes.to_bytes(8, "big")
        with item.open() as source:
            left_bytes = item.size_bytes
            while chunk := source.read(CHUNK_BYTES):
                left_bytes -= len(chunk)
                if left_bytes < 0:
                    break
                waiting += chunk
                if len(waiting) >= CHUNK_BYTES:
                    yield bytes(waiting)
                    waiting.clear()
        if left_bytes:
            raise Conflict(
                f"object {item.digest[:12]} is not {format_size(item.size_bytes)} long any more",
                hint="a file changed while it was sent: run the command again",
            )
    waiting += _END + count.to_bytes(8, "big")
    yield bytes(waiting)


class Decoder:
    """Puts the objects of a pack while its bytes arrive. As a context, an object that is not whole is dropped.

    Errors: `Refused` when the bytes are no pack, its objects are more or longer than allowed or not what their digests
    say, or (by `finish`) it was cut off. Objects that came whole before may stay.
    """

    def __init__(
        self, puts: Puts, *, bytes_max: int = limits.OBJECT_BYTES_MAX, count_max: int = limits.PACK_OBJECTS_MAX
    ) -> None:
        self.stored: list[Digest] = []
        self._puts = puts
        self._bytes_max = bytes_max
        self._count_max = count_max
        self._whole_bytes = 0  # of all objects so far
        self._head = bytearray()
        self._head_bytes = len(MAGIC)
        self._take = self._take_magic
        self._writing: Writing | None = None
        self._left_bytes = 0  # of the object that is being written

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            if self._writing is None:
                piece = view[: self._head_bytes - len(self._head)]
                self._head += piece
                if len(self._head) == self._head_bytes:
                    head, self._head = bytes(self._head), bytearray()
                    self._take(head)
            else:
                piece = view[: self._left_bytes]
                self._writing.write(piece)
                self._left_bytes -= len(piece)
                self._end_object(self._writing)
            view = view[len(piece) :]

    def finish(self) -> list[Digest]:
        """The objects of the pack, which is at its end."""
        if self._take != self._take_more:
            raise Refused(f"the pack was cut off after {len(self.stored)} objects", hint="send it again")
        return self.stored

    def _take_magic(self, head: bytes) -> None:
        if head != MAGIC:
            raise Refused("the bytes are not a pack", hint=f"a pack begins with {MAGIC.decode()}")
        self._take, self._head_bytes = self._take_head, _HEAD_BYTES

    def _take_head(self, head: bytes) -> None:
        name, number = head[:32], int.from_bytes(head[32:], "big")
        if name == _END:
            if number != len(self.stored):
                raise Refused(f"the pack says that it has {number} objects; {len(self.stored)} came")
            self._take, self._head_bytes = self._take_more, 1
            return
        if len(self.stored) >= self._count_max:
            raise Refused(f"the pack has more than {self._count_max} objects", hint="send several packs")
        self._whole_bytes += number
        if self._whole_bytes > self._bytes_max:
            raise Refused(
                f"the pack has more than {format_size(self._bytes_max)} of objects", hint="send several packs"
            )
        self._left_bytes = number
        self._writing = self._puts.begin(Digest(name.hex()))
        self._end_object(self._writing)  # it may be empty

    def _take_more(self, head: bytes) -> None:
        raise Refused("the pack goes on after its end")

    def _end_object(self, writing: Writing) -> None:
        if self._left_bytes == 0:
            self._writing = None
            with writing:
                self.stored.append(writing.commit())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writing is not None:
            self._writing.abort()


def decode(
    chunks: Iterable[bytes],
    objects: Objects,
    *,
    bytes_max: int = limits.OBJECT_BYTES_MAX,
    count_max: int = limits.PACK_OBJECTS_MAX,
) -> list[Digest]:
    """Put all objects of a pack, durably; return which. Errors: those of `Decoder`."""
    with objects.batch() as batch, Decoder(batch, bytes_max=bytes_max, count_max=count_max) as decoder:
        for chunk in chunks:
            decoder.write(chunk)
        return decoder.finish()
