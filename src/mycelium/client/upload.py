"""Send a directory to the site: only the objects it has not got, so that the same directory moves no bytes twice."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from mycelium.base.errors import Refused
from mycelium.base.ids import Digest
from mycelium.base.units import format_size
from mycelium.client import show
from mycelium.client.site import Client
from mycelium.store.pack import Item, batches, encode
from mycelium.store.scan import Scan, scan

SHOW_AFTER_S = 0.5  # a shorter upload is over before anybody could read about it
ASK_DIGESTS = 20_000  # digests in one question: 1.4 MB of JSON
SKIPPED_SHOWN = 5


class Sent(NamedTuple):
    """A directory that the site has: its tree, and how many files it holds."""

    digest: Digest
    files: int


def upload(client: Client, root: Path) -> Sent:
    """The directory's tree, which the site has when this returns.

    Errors: `Missing` for no directory, `Refused` with the sum when it is too large, those of the site.
    """
    root = root.expanduser().absolute()
    progress = UploadProgress()
    try:
        found = scan(root, cache=_cache_of(root))
    except Refused as refused:
        refused.hint = refused.hint and f"{refused.hint}; or send nothing along with --workdir none"
        raise
    _tell_skipped(found)
    digests = found.digests()
    missing: list[Digest] = []
    for start in range(0, len(digests), ASK_DIGESTS):
        asked = digests[start : start + ASK_DIGESTS]
        missing += client.post("/objects/missing", {"digests": asked}, key="again")["missing"]
    items = found.items(missing)
    progress.total_bytes = sum(item.size_bytes for item in items)
    for batch in batches(items):
        client.send(
            "POST",
            "/objects",
            _packed(batch, progress.advance),
            {"Content-Type": "application/octet-stream"},
            again=True,
        )
    progress.end(len(items))
    return Sent(found.digest, sum(entry.digest is not None for entry in found.tree.entries))


def _packed(batch: list[Item], tell: Callable[[int], None]) -> Callable[[], Iterator[bytes]]:
    """A body that can be made again when the request has to be repeated."""

    def chunks() -> Iterator[bytes]:
        for chunk in encode(batch):
            yield chunk
            tell(len(chunk))

    return chunks


def _cache_of(root: Path) -> Path | None:
    """Where the hashes of this directory's files are remembered: one small file a directory."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mycelium" / "hashes"
    try:
        base.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return None  # the cache only saves time
    return base / hashlib.sha256(os.fsencode(root)).hexdigest()[:32]


def _tell_skipped(found: Scan) -> None:
    for skipped in found.skipped[:SKIPPED_SHOWN]:
        show.note(f"left out {show.clean(skipped)}")
    if len(found.skipped) > SKIPPED_SHOWN:
        show.note(f"left out {len(found.skipped) - SKIPPED_SHOWN} more")


class UploadProgress:
    """One line on a terminal that says how far an upload is, if it takes long enough to ask."""

    def __init__(self) -> None:
        self.total_bytes = 0
        self._sent_bytes = 0
        self._begun = time.monotonic()
        self._said = 0.0

    def advance(self, sent_bytes: int) -> None:
        self._sent_bytes += sent_bytes
        now = time.monotonic()
        if not sys.stderr.isatty() or now - self._begun < SHOW_AFTER_S or now - self._said < 0.1:
            return
        self._said = now
        share = min(100, 100 * self._sent_bytes // max(1, self.total_bytes))
        rate = format_size(round(self._sent_bytes / (now - self._begun)))
        sys.stderr.write(f"\r\x1b[Kuploading {format_size(self.total_bytes)}: {share}%, {rate}/s")
        sys.stderr.flush()

    def end(self, count: int) -> None:
        took_s = time.monotonic() - self._begun
        if self._said:
            sys.stderr.write("\r\x1b[K")
        if took_s >= SHOW_AFTER_S:
            show.note(f"uploaded {format_size(self.total_bytes)} in {show.counted(count, 'object')}, {took_s:.1f}s")
