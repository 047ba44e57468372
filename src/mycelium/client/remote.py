"""The objects of a site, read over HTTP."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from typing import IO, BinaryIO, cast

from mycelium.base import limits
from mycelium.base.errors import Unavailable
from mycelium.base.ids import Digest
from mycelium.client.site import Client

IN_MEMORY_BYTES = 8 << 20


class Remote:
    """The objects of the site, read over HTTP: what unpacking asks of a store, and nothing more.

    Unpacking asks for the size of an object and then for its bytes: they are fetched once and kept until the next.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._digest = ""
        self._bytes: IO[bytes] | None = None
        self._size_bytes = 0

    def missing(self, digests: Iterable[Digest]) -> list[Digest]:
        """Not asked beforehand: what is missing is found missing when it is fetched, and a question costs as much."""
        return []

    def size(self, digest: Digest) -> int:
        self._fetch(digest)
        return self._size_bytes

    def read(self, digest: Digest, bytes_max: int = limits.OBJECT_READ_BYTES_MAX) -> bytes:
        return self.open(digest).read(bytes_max)

    def open(self, digest: Digest) -> BinaryIO:
        kept = self._fetch(digest)
        kept.seek(0)
        self._digest = ""  # whoever opened it closes it
        return cast("BinaryIO", kept)

    def _fetch(self, digest: Digest) -> IO[bytes]:
        if self._digest == digest and self._bytes is not None:
            return self._bytes
        from blake3 import blake3

        response = self._client.download(f"/objects/{digest}")
        kept = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115 - kept until the next object
        hasher = blake3()
        while chunk := response.read(1 << 18):
            hasher.update(chunk)
            kept.write(chunk)
        if hasher.hexdigest() != digest:
            raise Unavailable(f"object {digest[:12]} arrived altered", hint="try again")
        self._size_bytes = kept.tell()
        kept.seek(0)
        self._digest, self._bytes = digest, kept
        return kept
