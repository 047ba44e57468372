"""Kept results on their way between jobs of one account: pages, each with results of one kernel.

A step begins with the pages that earlier jobs of its account left (see `serve/http/programs.py`), and leaves pages of
its own among its outputs: what it used and what it computed. Layout, numbers big-endian: 8 bytes magic; u32 count; for
each result 64 bytes of key (after the kernel's part, which the file's name has) and u64 length; the results; 32 bytes
BLAKE3 of everything before. Never: unpickles anything, or fails a run; a page that does not read well is no page.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

import blake3

from mycelium.base.errors import Refused
from mycelium.base.limits import PAGE_BYTES_MAX, PAGE_RESULTS_MAX
from mycelium.jobs.program import KEPT, PAGE
from mycelium.polymer.runtime.memo import KERNEL_DIGITS

MAGIC = b"\x89PMK\r\n\x1a\n"
_COUNT = struct.Struct(">I")
_ENTRY = struct.Struct(">64sQ")
_DIGEST_BYTES = 32


class PagedMemo:
    """Results from the pages in `where`, and those that are put until `save`."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self.known: dict[str, memoryview | bytes] = {}
        self.used: dict[str, None] = {}  # keys that this run asked for and found, or brought
        for path in sorted(where.glob(f"*{PAGE}")) if where.is_dir() else ():
            try:
                self.known |= {path.name[:KERNEL_DIGITS] + key: value for key, value in read(mapped(path)).items()}
            except (Refused, OSError, ValueError):
                continue

    def get(self, key: str) -> bytes | None:
        held = self.known.get(key)
        if held is None:
            return None
        self.used[key] = None
        return bytes(held)

    def put(self, key: str, value: bytes) -> None:
        if len(value) <= PAGE_BYTES_MAX // 4:
            self.known[key] = value
            self.used[key] = None

    def settle(self) -> None:
        """Pages are written by `save`, once the run has succeeded."""

    def save(self) -> None:
        """A page for each kernel that was called: what this run used first, then what else is known, while it fits."""
        kernels = dict.fromkeys(key[:KERNEL_DIGITS] for key in self.used)
        pages = {kernel: self._page(kernel) for kernel in kernels}
        self.where.mkdir(exist_ok=True)
        for old in self.where.glob(f"*{PAGE}"):
            old.unlink()
        for kernel, page in pages.items():
            (self.where / f"{kernel}{PAGE}").write_bytes(page)

    def _page(self, kernel: str) -> bytes:
        wanted = [key for key in self.used if key.startswith(kernel)]
        others = [key for key in self.known if key.startswith(kernel) and key not in self.used]
        chosen: dict[str, memoryview | bytes] = {}
        left = PAGE_BYTES_MAX
        for key in [*wanted, *others][:PAGE_RESULTS_MAX]:
            left -= len(self.known[key]) + _ENTRY.size
            if left < 0:
                break
            chosen[key[KERNEL_DIGITS:]] = self.known[key]
        return pack(chosen)


def pack(results: dict[str, memoryview | bytes]) -> bytes:
    """The page with these results, by the rest of their keys. The same results give the same bytes."""
    ordered = sorted(results.items())
    parts = [MAGIC, _COUNT.pack(len(ordered))]
    parts += [_ENTRY.pack(key.encode(), len(value)) for key, value in ordered]
    parts += [bytes(value) for _, value in ordered]
    body = b"".join(parts)
    return body + blake3.blake3(body).digest()


def read(data: bytes | memoryview) -> dict[str, memoryview]:
    """The results in a page. Errors: `Refused` with what is wrong. Cost: no copy of the results."""
    view = memoryview(data)
    body, digest = view[:-_DIGEST_BYTES], view[-_DIGEST_BYTES:]
    at = len(MAGIC) + _COUNT.size
    if len(body) < at or bytes(body[: len(MAGIC)]) != MAGIC:
        raise Refused("this is not a page of results")
    if blake3.blake3(body).digest() != bytes(digest):
        raise Refused("the page was altered or cut short: its checksum does not match")
    (count,) = _COUNT.unpack_from(body, len(MAGIC))
    if count > PAGE_RESULTS_MAX or at + count * _ENTRY.size > len(body):
        raise Refused(f"the page claims {count} results")
    entries = [_ENTRY.unpack_from(body, at + number * _ENTRY.size) for number in range(count)]
    at += count * _ENTRY.size
    if sum(size for _, size in entries) != len(body) - at:
        raise Refused("the page's results do not have the size that it claims")
    found: dict[str, memoryview] = {}
    for key, size in entries:
        found[key.decode("ascii", errors="replace")] = body[at : at + size]
        at += size
    return found


def mapped(path: Path) -> memoryview:
    """A file as memory that the system can take back. Errors: `OSError`; `ValueError` for an empty one."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def directory() -> Path:
    """Where a step finds its pages, and leaves them."""
    return Path(KEPT)
