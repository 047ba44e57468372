"""Weights from the hub: a small one of our own that redirects, breaks off, knows hashes and asks who it is."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mycelium.base.errors import Denied, Missing, Refused, Unavailable
from mycelium.client import hub
from mycelium.client.fetch import fetch
from mycelium.inference.catalogue import ModelSource, source

DATA = os.urandom(3 << 20)


class Hub(ThreadingHTTPServer):
    """`breaks`: after how many bytes each of the next answers is cut off."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Door)
        self.data = DATA
        self.sha256 = hashlib.sha256(DATA).hexdigest()
        self.breaks: list[int] = []
        self.begun: list[int] = []  # from which byte on each answer was
        self.token = ""
        self.ranges = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Door(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Hub)
        if server.token and self.headers["authorization"] != f"Bearer {server.token}":
            self.send_error(401)
        elif self.path == "/ann/small/resolve/main/weights/w.gguf":
            self.send_response(302)
            self.send_header("location", "/elsewhere/blob")
            self.send_header("x-linked-etag", f'"{server.sha256}"')
            self.end_headers()
        elif self.path == "/elsewhere/blob":
            self._give()
        else:
            self.send_error(404)

    def _give(self) -> None:
        server = self.server
        assert isinstance(server, Hub)
        asked = self.headers["range"] if server.ranges else None
        begin = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        server.begun.append(begin)
        if begin >= len(server.data):
            self.send_error(416)
            return
        self.send_response(206 if asked else 200)
        self.send_header("content-length", str(len(server.data) - begin))
        self.end_headers()
        end = begin + server.breaks.pop(0) if server.breaks else len(server.data)
        self.wfile.write(server.data[begin:end])

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr(hub, "RETRY_S", 0.0)
        yield server
        server.shutdown()
        thread.join()


def wanted() -> ModelSource:
    return source("hf://ann/small/weights/w.gguf")


def get(into: Path) -> bytes:
    into.mkdir(exist_ok=True)
    return fetch(wanted(), into, lambda so_far, total: None).read_bytes()


def left(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache" / "mycelium" / "fetch").iterdir())


def test_a_file_is_fetched_and_nothing_is_left_beside_it(here: Hub, tmp_path: Path) -> None:
    assert get(tmp_path / "a") == DATA
    assert left(tmp_path) == []
    assert wanted().name == "w"


def test_a_connection_that_breaks_is_gone_on_from_where_it_broke(here: Hub, tmp_path: Path) -> None:
    here.breaks = [1 << 20, 1 << 19]
    assert get(tmp_path / "a") == DATA
    assert here.begun == [0, 1 << 20, (1 << 20) + (1 << 19)]


def test_what_was_fetched_is_kept_for_the_next_time(here: Hub, tmp_path: Path) -> None:
    here.breaks = [1000] * hub.TRIES
    with pytest.raises(Unavailable, match="cannot be reached"):
        get(tmp_path / "a")
    assert get(tmp_path / "a") == DATA
    assert here.begun[-1] == 1000 * hub.TRIES


def test_a_file_that_was_changed_meanwhile_is_fetched_anew(here: Hub, tmp_path: Path) -> None:
    here.breaks = [1000] * hub.TRIES
    with pytest.raises(Unavailable):
        get(tmp_path / "a")
    here.data = os.urandom(2 << 20)
    here.sha256 = hashlib.sha256(here.data).hexdigest()
    assert get(tmp_path / "a") == here.data


def test_a_hub_that_gives_no_parts_gives_the_whole_again(here: Hub, tmp_path: Path) -> None:
    here.breaks, here.ranges = [1 << 20], False
    assert get(tmp_path / "a") == DATA
    assert here.begun == [0, 0]


def test_other_bytes_than_the_hub_says_are_refused_and_not_kept(here: Hub, tmp_path: Path) -> None:
    here.sha256 = "ab" * 32
    with pytest.raises(Refused, match="has the SHA-256 abababababab…"):
        get(tmp_path / "a")
    here.sha256 = hashlib.sha256(DATA).hexdigest()
    assert get(tmp_path / "a") == DATA


def test_what_the_hub_has_not_or_does_not_give_is_told(
    here: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Missing, match="the hub has no ann/other"):
        fetch(source("hf://ann/other/x.gguf"), tmp_path, lambda so_far, total: None)
    here.token = "secret"
    with pytest.raises(Denied, match="does not give"):
        get(tmp_path / "a")
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert get(tmp_path / "a") == DATA
