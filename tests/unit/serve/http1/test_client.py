"""The small HTTP client: what it makes of answers that are whole, cut, chunked, or none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from mycelium.serve.http1.client import Broken, HttpClient, Target, target_of


def ask(answer: bytes, path: Path, then: Callable[[Path], Path] = lambda found: found) -> tuple[int, bytes]:
    """One request to a server that says `answer` and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async def run() -> tuple[int, bytes]:
        async with await asyncio.start_unix_server(serve, path):
            reply = await HttpClient().send(Target(str(then(path))), "GET", "/")
            try:
                return reply.status, await reply.read(1000)
            finally:
                reply.close()

    return asyncio.run(run())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    ],
)
def test_a_whole_answer_is_read_whole(answer: bytes, tmp_path: Path):
    assert ask(answer, tmp_path / "s") == (200, b"hello")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000,
        b"x" * 100_000,
    ],
)
def test_an_answer_that_is_cut_or_no_answer_is_broken(answer: bytes, tmp_path: Path):
    with pytest.raises(Broken):
        ask(answer, tmp_path / "s")


def test_a_socket_in_a_deep_directory_is_reached(tmp_path: Path):
    deep = tmp_path / ("d" * 120)
    deep.mkdir()

    def move(found: Path) -> Path:
        return found.rename(deep / "s")

    assert ask(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", tmp_path / "s", move) == (200, b"")


def test_a_link_to_anothers_socket_is_not_followed(tmp_path: Path):
    def link(found: Path) -> Path:
        (tmp_path / "link").symlink_to(found)
        return tmp_path / "link"

    with pytest.raises(Broken, match="no socket"):
        ask(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", tmp_path / "s", link)


def test_urls_name_host_port_and_prefix():
    assert target_of("http://host:8000/v1/") == Target("", "host", 8000, False, "/v1")
    assert target_of("https://host/v1") == Target("", "host", 443, True, "/v1")
