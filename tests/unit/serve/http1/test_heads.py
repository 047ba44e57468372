"""Heads of requests: what is read, and what two readers could take differently."""

from __future__ import annotations

import pytest

from mycelium.serve.http1.errors import ApiError
from mycelium.serve.http1.heads import HEADERS_MAX, parse
from mycelium.serve.http1.wire import chunk_size


def head(*lines: str) -> bytes:
    return "\r\n".join((*lines, "", "")).encode("latin-1")


def test_a_request_is_read():
    found = parse(head("POST /v1/a%20b?x=1 HTTP/1.1", "Host: h", "CONTENT-LENGTH: 5", "X:  y "))
    assert (found.method, found.path, found.query, found.length) == ("POST", "/v1/a b", "x=1", 5)
    assert found.headers["x"] == "y"
    assert found.keeps and found.chunks


def test_a_header_that_comes_twice_is_one_with_both_values():
    assert parse(head("GET / HTTP/1.1", "host: h", "accept: a", "accept: b")).headers["accept"] == "a, b"


@pytest.mark.parametrize(
    ("version", "connection", "keeps"),
    [("1.1", "close", False), ("1.1", "keep-alive", True), ("1.0", "x", False), ("1.0", "Keep-Alive", True)],
)
def test_a_connection_is_kept_as_the_client_says(version: str, connection: str, keeps: bool):
    assert parse(head(f"GET / HTTP/{version}", "host: h", f"connection: {connection}")).keeps is keeps


@pytest.mark.parametrize(
    "lines",
    [
        ("",),
        ("GET /",),
        ("GET / HTTP/2.0", "host: h"),
        ("get / HTTP/1.1", "host: h"),
        ("GET  / HTTP/1.1", "host: h"),
        ("GET http://h/ HTTP/1.1", "host: h"),
        ("GET /\x00 HTTP/1.1", "host: h"),
        ("GET / HTTP/1.1",),
        ("GET / HTTP/1.1", "host: h", "host: h"),
        ("GET / HTTP/1.1", "host: h", " folded: x"),
        ("GET / HTTP/1.1", "host: h", "a : x"),
        ("GET / HTTP/1.1", "host: h", "no colon"),
        ("GET / HTTP/1.1", "host: h", ": x"),
        ("GET / HTTP/1.1", "host: h", "a: x\ny: z"),
        ("GET / HTTP/1.1", "host: h", "a: \x00"),
        ("POST / HTTP/1.1", "host: h", "content-length: 1", "content-length: 1"),
        ("POST / HTTP/1.1", "host: h", "content-length: +1"),
        ("POST / HTTP/1.1", "host: h", "content-length: 1, 1"),
        ("POST / HTTP/1.1", "host: h", "content-length: \u00b2"),
        ("POST / HTTP/1.1", "host: h", "content-length: 5", "transfer-encoding: chunked"),
        ("POST / HTTP/1.1", "host: h", "transfer-encoding: gzip, chunked"),
        ("POST / HTTP/1.0", "host: h", "transfer-encoding: chunked"),
        ("GET / HTTP/1.1", "host: h", *("a: b",) * HEADERS_MAX),
    ],
)
def test_what_can_be_taken_two_ways_is_refused(lines: tuple[str, ...]):
    with pytest.raises(ApiError) as refused:
        parse(head(*lines))
    assert refused.value.status == 400


def test_the_size_of_a_chunk_is_hexadecimal_and_may_have_an_extension():
    assert [chunk_size(line) for line in (b"0\r\n", b"1f;a=b\r\n", b"A \r\n")] == [0, 31, 10]


@pytest.mark.parametrize(
    "line", [b"\r\n", b"-1\r\n", b"0x5\r\n", b"+5\r\n", b"1_0\r\n", b" 5\r\n", b"f" * 16 + b"\r\n"]
)
def test_what_only_some_take_for_a_number_is_no_size(line: bytes):
    with pytest.raises(ValueError, match="size"):
        chunk_size(line)
