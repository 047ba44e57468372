from __future__ import annotations

import asyncio
import io
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycelium.base import framing
from mycelium.base.errors import Exhausted, Refused
from mycelium.base.limits import FRAME_BYTES_MAX


def read(data: bytes, count: int = 1, bytes_max: int = FRAME_BYTES_MAX) -> list[bytes | None]:
    """From a stream of asyncio that holds this and has ended."""

    async def script() -> list[bytes | None]:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return [await framing.read(reader, bytes_max) for _ in range(count)]

    return asyncio.run(script())


class Pipe:
    """What a socket gives whose other end sent this and closed: at most `piece` bytes at a time."""

    def __init__(self, data: bytes, piece: int) -> None:
        self._data, self._piece = io.BytesIO(data), piece
        self.taken = 0

    def recv_into(self, into: memoryview) -> int:
        self.taken = max(self.taken, len(into))
        return self._data.readinto(into[: self._piece])


def receive(data: bytes, count: int = 1, piece: int = 3, bytes_max: int = FRAME_BYTES_MAX) -> list[bytes]:
    """From a socket that blocks."""
    pipe = Pipe(data, piece)
    return [bytes(framing.receive(cast(Any, pipe), bytes_max)) for _ in range(count)]


@given(bodies=st.lists(st.binary(max_size=300), max_size=5), piece=st.integers(1, 400))
def test_frames_arrive_one_by_one_as_they_were_sent(bodies: list[bytes], piece: int):
    stream = b"".join(framing.pack(body) for body in bodies)
    assert read(stream, len(bodies) + 1) == [*bodies, None]
    assert receive(stream, len(bodies), piece) == bodies


def test_an_empty_frame_is_a_frame():
    assert framing.pack(b"") == b"\0\0\0\0"
    assert read(b"\0\0\0\0") == [b""]
    assert receive(b"\0\0\0\0") == [b""]


def test_the_length_has_four_bytes_the_most_significant_first():
    assert framing.pack(b"x" * 258) == b"\0\0\1\2" + b"x" * 258


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0", b"\0\0\0\x05", b"\0\0\0\x05abcd"])
def test_a_stream_that_ends_within_a_frame_has_ended(data: bytes):
    assert read(data) == [None]
    with pytest.raises(ConnectionError):
        receive(data)


@pytest.mark.parametrize("bytes_max", [4, FRAME_BYTES_MAX])
def test_a_frame_of_the_bound_is_read_and_one_byte_more_refused_before_memory_is_taken(bytes_max: int):
    body = bytes(bytes_max)
    assert read(framing.pack(body, bytes_max), bytes_max=bytes_max) == [body]
    assert receive(framing.pack(body, bytes_max), piece=1 << 20, bytes_max=bytes_max) == [body]
    announced = (bytes_max + 1).to_bytes(4, "big")
    with pytest.raises(Refused, match="at most"):
        read(announced, bytes_max=bytes_max)
    pipe = Pipe(announced + bytes(8), 8)
    with pytest.raises(Refused, match="at most"):
        framing.receive(cast(Any, pipe), bytes_max)
    assert pipe.taken == 4


def test_what_the_other_end_would_refuse_is_not_sent():
    with pytest.raises(Exhausted, match="5B; a frame holds 4B"):
        framing.pack(b"12345", 4)


def test_so_many_bytes_come_in_whatever_pieces():
    pipe = cast(Any, Pipe(b"abcdefgh", 3))
    assert framing.exactly(pipe, 0) == b""
    assert framing.exactly(pipe, 7) == b"abcdefg"
    with pytest.raises(ConnectionError, match="1 of 2"):
        framing.exactly(pipe, 2)
