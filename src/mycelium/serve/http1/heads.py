"""The head of an HTTP request, read strictly: what two readers could take differently is refused.

Never: guesses what was meant.
Source: RFC 9110 and RFC 9112.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

from mycelium.serve.http1.errors import ApiError

HEADERS_MAX = 128
FIRST = re.compile(r"([A-Z]{1,16}) (/[\x21-\x7e]*) HTTP/1\.([01])")
NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# No header value holds these; a line feed alone would be the end of a line to some readers.
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
ONCE = frozenset(("content-length", "transfer-encoding", "host", "authorization", "content-type"))


class MessageHead(NamedTuple):
    method: str
    path: str
    query: str
    headers: dict[str, str]
    length: int  # of the body; -1 when it comes in chunks
    keeps: bool  # whether the client would ask again on this connection
    chunks: bool  # whether the client can be answered in chunks


def parse(raw: bytes) -> MessageHead:
    """Errors: `ApiError` 400."""
    first, *lines = raw[:-4].decode("latin-1").split("\r\n")
    found = FIRST.fullmatch(first)
    if found is None:
        raise bad("its first line is not a request of HTTP/1.1")
    headers = _headers(lines)
    method, target, minor = found.groups()
    modern = minor == "1"
    if modern and "host" not in headers:
        raise bad("it has no Host")
    connection = headers.get("connection", "").lower()
    keeps = "close" not in connection if modern else "keep-alive" in connection
    path, _, query = target.partition("?")
    return MessageHead(
        method, unquote(path) if "%" in path else path, query, headers, _length(headers, modern), keeps, modern
    )


def _headers(lines: list[str]) -> dict[str, str]:
    if len(lines) > HEADERS_MAX:
        raise bad(f"it has more than {HEADERS_MAX} headers")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or NAME.fullmatch(name) is None or CONTROL.search(value) is not None:
            raise bad("one of its headers is malformed")
        name, value = name.lower(), value.strip(" \t")
        if name in headers:
            if name in ONCE:
                raise bad(f"it has two headers {name}")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    return headers


def _length(headers: dict[str, str], modern: bool) -> int:
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if length is not None or not modern or coding.lower() != "chunked":
            raise bad("how long its body is cannot be told")
        return -1
    if length is None:
        return 0
    if not (length.isascii() and length.isdigit()) or len(length) > 15:
        raise bad("its Content-Length is not a number")
    return int(length)


def bad(why: str) -> ApiError:
    return ApiError(400, f"We could not read your request: {why}.")
