"""Fetches a file from the Hugging Face hub, or from what `HF_ENDPOINT` names; `HF_TOKEN` says who asks.

What was fetched before a connection broke, or before Ctrl-C, is kept and gone on from. The hub says the SHA-256 of
large files: other bytes are refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mycelium.base.errors import Denied, Missing, Refused, Unavailable
from mycelium.inference.catalogue import HubFile

if TYPE_CHECKING:
    import httpx

TRIES, RETRY_S = 5, 1.0
SILENCE_S = 60.0
Tell = Callable[[int, int], None]


def fetch(file: HubFile, into: Path, tell: Tell) -> Path:
    """The whole file, in `into`. Errors: `Missing`, `Denied`, `Refused`, `Unavailable`."""
    import httpx

    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    url = f"{hub}/{file.repository}/resolve/main/{file.path}"
    partial = _Partial(url)
    for left in reversed(range(TRIES)):
        try:
            if _go_on(url, file, partial, tell):
                break
        except httpx.HTTPError as error:
            if not left:
                raise Unavailable(
                    f"the hub cannot be reached: {type(error).__name__}",
                    hint="try again: what was fetched is kept; HF_ENDPOINT names a mirror",
                ) from None
            time.sleep(RETRY_S)
    target = into / Path(file.path).name
    partial.finish(target)
    return target


class _Partial:
    """What there is of a file so far, and which version of it."""

    def __init__(self, url: str) -> None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mycelium" / "fetch"
        cache.mkdir(parents=True, exist_ok=True)
        self.path = cache / hashlib.sha256(url.encode()).hexdigest()
        self._tag_path = self.path.with_suffix(".tag")

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def tag(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return self._tag_path.read_text()
        return ""

    def start_over(self, tag: str) -> None:
        self.path.unlink(missing_ok=True)
        self._tag_path.write_text(tag)

    def finish(self, target: Path) -> None:
        """Errors: `Refused` for bytes that are not what the hub says."""
        tag, size = self.tag, self.size_bytes
        if re.fullmatch(r"[0-9a-f]{64}", tag):
            with self.path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != tag:
                self.start_over("")
                raise Refused(
                    f"the hub's file has the SHA-256 {tag[:12]}…; the {size} bytes that came have {found[:12]}…",
                    hint="try again; it is fetched anew",
                )
        shutil.move(self.path, target)
        self._tag_path.unlink(missing_ok=True)


def _go_on(url: str, file: HubFile, partial: _Partial, tell: Tell) -> bool:
    """Fetch what is lacking. False when it has to begin anew. Errors: httpx's own when the connection breaks."""
    import httpx

    have = partial.size_bytes
    headers = {"accept-encoding": "identity", **({"range": f"bytes={have}-"} if have else {})}
    if token := os.environ.get("HF_TOKEN"):
        headers["authorization"] = f"Bearer {token}"
    with httpx.stream("GET", url, headers=headers, follow_redirects=True, timeout=SILENCE_S) as reply:
        if reply.status_code == 416:  # there is no more than we have: it was whole, or it is another file by now
            partial.start_over("")
            return False
        if reply.status_code in (401, 403):
            raise Denied(f"the hub does not give {file.repository}/{file.path}", hint="HF_TOKEN says who asks")
        if reply.status_code == 404:
            raise Missing(f"the hub has no {file.repository}/{file.path}")
        if reply.status_code not in (200, 206):
            raise Unavailable(f"the hub answered {reply.status_code} for {file.repository}/{file.path}")
        tag = _tag(reply)
        if have and (reply.status_code == 200 or tag != partial.tag):
            if reply.status_code == 206:
                partial.start_over("")
                return False
            have = 0
        if not have:
            partial.start_over(tag)
        total = have + int(reply.headers.get("content-length", 0))
        with partial.path.open("ab") as out:
            for piece in reply.iter_raw():  # as it comes: what was held back for a larger piece would be lost
                out.write(piece)
                tell(out.tell(), total)
    return True


def _tag(reply: httpx.Response) -> str:
    """The SHA-256 where the hub says it, which it does before it leads elsewhere; else what it says of the version."""
    for each in (*reply.history, reply):
        if tag := each.headers.get("x-linked-etag"):
            return tag.removeprefix("W/").strip('"')
    return reply.headers.get("etag", "").removeprefix("W/").strip('"')
