"""Bytes that are hashed while they are read, and refused if they are not those that their name promises."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, NoReturn, cast

from blake3 import blake3

from mycelium.base.errors import Unavailable
from mycelium.base.ids import Digest

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class Verified(io.RawIOBase):
    """Reads `file`, which must hold exactly `size_bytes` of `digest`; otherwise calls `altered`, which raises.

    The last bytes are handed out only after all of them were found true: whoever reads `size_bytes` has true bytes.
    """

    def __init__(self, file: io.RawIOBase, digest: Digest, size_bytes: int, altered: Callable[[], NoReturn]) -> None:
        super().__init__()
        self._file = file
        self._digest = digest
        self._left_bytes = size_bytes
        self._size_bytes = size_bytes
        self._altered = altered
        self._hash = blake3()
        self._checked = False

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        if not view:
            return 0
        if self._left_bytes == 0:
            self._check()
            return 0
        try:
            count = self._file.readinto(view[: self._left_bytes]) or 0
        except OSError as error:
            raise Unavailable(f"could not read object {self._digest[:12]}: {error.strerror or error}") from error
        self._hash.update(view[:count])
        self._left_bytes -= count
        if count == 0 or self._left_bytes == 0:
            self._check()
        return count

    def readall(self) -> bytes:
        data = bytearray(self._left_bytes)
        view = memoryview(data)
        done = 0
        while count := self.readinto(view[done:]):
            done += count
        self._check()
        return bytes(data)

    def close(self) -> None:
        self._file.close()
        super().close()

    def _check(self) -> None:
        if self._checked:
            return
        if self._left_bytes or self._hash.hexdigest() != self._digest:
            self._altered()
        self._checked = True


def verified(file: io.RawIOBase, digest: Digest, size_bytes: int, altered: Callable[[], NoReturn]) -> BinaryIO:
    return cast(BinaryIO, Verified(file, digest, size_bytes, altered))
