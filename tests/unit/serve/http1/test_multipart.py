"""Forms as clients send them, cut into pieces at every place."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycelium.serve.http1 import multipart
from mycelium.serve.http1.errors import ApiError


def form(content: bytes, mark: bytes = b"XX") -> bytes:
    return (
        b'--%b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--%b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n%b\r\n--%b--\r\n" % (mark, mark, content, mark)
    )


def read(body: bytes, cuts: list[int] | None = None, kind: str = "multipart/form-data; boundary=XX"):
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts or [])})
    taken = bytearray()

    async def pieces() -> AsyncIterator[bytes]:
        for first, last in itertools.pairwise(places):
            yield body[first:last]

    async def take(piece: bytes) -> None:
        taken.extend(piece)

    return asyncio.run(multipart.read(kind, pieces(), take)), bytes(taken)


@given(st.binary(max_size=200).filter(lambda data: b"\r\n--XX" not in data), st.lists(st.integers(0, 600), max_size=8))
def test_a_file_arrives_as_it_was_sent_however_it_is_cut(content: bytes, cuts: list[int]):
    found, taken = read(form(content), cuts)
    assert taken == content
    assert (found.fields, found.filename, found.has_file) == ({"purpose": "batch"}, "a.jsonl", True)


@given(st.binary(max_size=300))
def test_what_is_no_form_is_refused_and_nothing_else(junk: bytes):
    with pytest.raises(ApiError):
        read(junk)


@pytest.mark.parametrize("kind", ["", "text/plain", "multipart/form-data", "multipart/mixed; boundary=XX"])
def test_another_type_of_body_is_refused(kind: str):
    with pytest.raises(ApiError):
        read(form(b"x"), kind=kind)


def test_a_form_that_ends_in_the_middle_is_refused():
    whole = form(b"content")
    for length in range(len(whole) - 4):
        with pytest.raises(ApiError):
            read(whole[:length])
