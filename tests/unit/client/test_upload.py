from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mycelium.base.errors import Missing, Refused, Unavailable
from mycelium.base.ids import Digest
from mycelium.client import upload as upload_module
from mycelium.client.remote import Remote
from mycelium.client.upload import upload
from mycelium.store.memory import MemoryObjects
from mycelium.store.objects import digest_of
from mycelium.store.pack import decode
from mycelium.store.unpack import unpack


class Site:
    """The doors to objects of a site, in memory."""

    def __init__(self) -> None:
        self.objects = MemoryObjects()
        self.received_bytes = 0
        self.altered: Digest | None = None

    def post(self, path: str, document: Any, **_: Any) -> Any:
        assert path == "/objects/missing"
        return {"missing": self.objects.missing(document["digests"])}

    def send(self, method: str, path: str, body: Any, headers: Any, **_: Any) -> bytes:
        assert (method, path) == ("POST", "/objects")
        chunks = list(body())
        self.received_bytes += sum(map(len, chunks))
        decode(chunks, self.objects)
        return b"{}"

    def download(self, path: str) -> Any:
        digest = Digest(path.rsplit("/", 1)[1])
        opened = self.objects.open(digest)
        if digest == self.altered:
            import io

            return io.BytesIO(b"something else")
        return opened


@pytest.fixture
def site() -> Any:
    return Site()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    (root / "data/a.txt").write_text("a" * 1000)
    (root / "run.py").write_text("print(1)\n")
    (root / ".gitignore").write_text("*.tmp\n")
    (root / "x.tmp").write_text("no")
    return root


def test_the_same_directory_moves_no_bytes_twice(site: Any, root: Path):
    first = upload(site, root)
    moved = site.received_bytes
    assert moved > 1000
    assert upload(site, root) == first
    assert site.received_bytes == moved


def test_what_was_sent_can_be_unpacked_as_it_was(site: Any, root: Path, tmp_path: Path):
    digest, _ = upload(site, root)
    unpack(Remote(site), digest, tmp_path / "there")  # type: ignore[arg-type]
    assert (tmp_path / "there/data/a.txt").read_text() == "a" * 1000
    assert not (tmp_path / "there/x.tmp").exists()


def test_a_directory_that_is_too_large_is_refused_with_the_sum(site: Any, root: Path, monkeypatch: pytest.MonkeyPatch):
    whole = upload_module.scan
    monkeypatch.setattr(upload_module, "scan", lambda root, cache: whole(root, cache=cache, bytes_max=1000))
    with pytest.raises(Refused, match=r"holds 1015B; at most 1000B .* data/ 1000B") as caught:
        upload(site, root)
    assert "--workdir none" in caught.value.hint
    assert site.received_bytes == 0


def test_no_such_directory_is_missing(site: Any, tmp_path: Path):
    with pytest.raises(Missing, match="is not a directory"):
        upload(site, tmp_path / "nowhere")


def test_bytes_that_were_altered_on_the_way_are_refused(site: Any, root: Path, tmp_path: Path):
    digest, _ = upload(site, root)
    site.altered = digest_of(b"print(1)\n")
    with pytest.raises(Unavailable, match="arrived altered"):
        unpack(Remote(site), digest, tmp_path / "there")  # type: ignore[arg-type]
    assert not (tmp_path / "there/run.py").exists()
