"""Reads `multipart/form-data` as it comes: small fields into memory, the file into whoever takes it.

Source: RFC 7578 and RFC 2046.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from email.message import Message

from mycelium.serve.http1.errors import ApiError

FIELD_BYTES_MAX = 4096
HEAD_BYTES_MAX = 8192
FIELDS_MAX = 16
Take = Callable[[bytes], Awaitable[None]]


class Form:
    """What was sent: fields by name, and the name of the file that was taken."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.filename = ""
        self.has_file = False


async def read(content_type: str, pieces: AsyncIterator[bytes], take: Take, file_field: str = "file") -> Form:
    """The form; the bytes of its file go to `take`. Errors: `ApiError` 400."""
    boundary = _parameter(content_type, "boundary")
    if not content_type.lower().startswith("multipart/form-data") or not boundary:
        raise _bad("the body must be multipart/form-data")
    return await _PartReader(boundary.encode("latin-1"), pieces, take, file_field).read()


class _PartReader:
    def __init__(self, boundary: bytes, pieces: AsyncIterator[bytes], take: Take, file_field: str) -> None:
        self._mark = b"\r\n--" + boundary
        self._pieces = pieces
        self._take = take
        self._file_field = file_field
        self._buffer = bytearray(b"\r\n")  # so that the first boundary is like the others
        self._form = Form()

    async def read(self) -> Form:
        await self._skip_to_mark()
        for _ in range(FIELDS_MAX):
            await self._fill(2)
            if self._buffer.startswith(b"--"):
                async for _ in self._pieces:
                    pass  # what comes after the end is of no meaning
                return self._form
            await self._part()
        raise _bad(f"the form has more than {FIELDS_MAX} parts")

    async def _part(self) -> None:
        head = await self._head()
        name, filename = _parameter(head, "name"), _parameter(head, "filename")
        if name == self._file_field and not self._form.has_file:
            self._form.has_file, self._form.filename = True, filename
            async for piece in self._until_mark():
                await self._take(piece)
            return
        value = bytearray()
        async for piece in self._until_mark():
            value += piece
            if len(value) > FIELD_BYTES_MAX:
                raise _bad(f"the field {name[:64]!r} has more than {FIELD_BYTES_MAX} bytes")
        self._form.fields[name[:128]] = value.decode("utf-8", "replace")

    async def _head(self) -> str:
        """The Content-Disposition of the part that begins."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > HEAD_BYTES_MAX:
                raise _bad("a part has too long a head")
            await self._more()
        lines = bytes(self._buffer[:end]).decode("utf-8", "replace").split("\r\n")
        del self._buffer[: end + 4]
        found = [line for line in lines if line.lower().startswith("content-disposition:")]
        if not found:
            raise _bad("a part says nothing of its content")
        return found[0].partition(":")[2]

    async def _skip_to_mark(self) -> None:
        async for _ in self._until_mark():
            pass

    async def _until_mark(self) -> AsyncIterator[bytes]:
        """The bytes up to the next boundary, which is taken away."""
        keep = len(self._mark) - 1
        while (at := self._buffer.find(self._mark)) < 0:
            if len(self._buffer) > keep:
                yield bytes(self._buffer[:-keep])
                del self._buffer[:-keep]
            await self._more()
        yield bytes(self._buffer[:at])
        del self._buffer[: at + len(self._mark)]

    async def _fill(self, count: int) -> None:
        while len(self._buffer) < count:
            await self._more()

    async def _more(self) -> None:
        piece = await anext(self._pieces, None)
        if piece is None:
            raise _bad("the form ends in the middle")
        self._buffer += piece


def _parameter(header: str, name: str) -> str:
    if re.search(r"[\r\n\0]", header):
        return ""
    message = Message()
    message["x"] = header
    found = message.get_param(name, "", header="x")
    return found[2] if isinstance(found, tuple) else str(found)


def _bad(message: str) -> ApiError:
    return ApiError(400, message)
