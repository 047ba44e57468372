"""How fast objects and trees go in and out, beside what the hash, the memory and the disk allow.

`python -m bench.store` runs the full size: one object of 512 MiB, and a directory of 10,000 files of 3,000 bytes.
The physical bounds, measured in the same run: BLAKE3 on one core, a copy in memory, a plain write with fsync to the
same disk; for small files, making, writing and renaming as many without any durability. Peers, run beside it where they
are installed: `cp -r` and `tar` (copies, no hash, no fsync) and `git add` (hash and compression, no fsync).
`BENCH_DIR` says on which disk.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from blake3 import blake3

from mycelium.base.units import KIB, MIB
from mycelium.store.directory import DirectoryObjects
from mycelium.store.objects import CHUNK_BYTES
from mycelium.store.pack import batches, decode, encode
from mycelium.store.scan import scan, store_tree
from mycelium.store.unpack import unpack

T = TypeVar("T")
FILE_BYTES = 3_000
LATER_NS = 1 << 62  # so that the cache trusts files that were made a moment ago


def timed(deed: Callable[[], T]) -> tuple[float, T]:
    began = time.perf_counter()
    result = deed()
    return time.perf_counter() - began, result


def best_s(times: int, deed: Callable[[], object]) -> float:
    return min(timed(deed)[0] for _ in range(times))


def write_plain(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_verified(objects: DirectoryObjects, digest: str) -> None:
    with objects.open(digest) as source:  # type: ignore[arg-type]
        while source.read(CHUNK_BYTES):
            pass


def large(around: Path, size_bytes: int, times: int) -> dict[str, float]:
    """One large object."""
    data = os.urandom(MIB) * (size_bytes // MIB)
    objects = DirectoryObjects(around / "large")

    def put() -> None:
        objects.delete(digest)
        objects.put(data)

    digest = objects.put(data)
    speeds_s = {
        "bound_blake3": best_s(times, lambda: blake3(data).digest()),
        "bound_memory_copy": best_s(times, lambda: bytearray(data)),
        "bound_write_fsync": best_s(times, lambda: write_plain(around / "plain", data)),
        "put": best_s(times, put),
        "put_again": best_s(times, lambda: objects.put(data)),
        "get_verified": best_s(times, lambda: read_verified(objects, digest)),
    }
    return {f"{name}_mb_per_s": size_bytes / 1e6 / seconds for name, seconds in speeds_s.items()}


def make_files(root: Path, count: int) -> None:
    for number in range(count):
        if number % 100 == 0:
            (root / f"{number // 100}").mkdir(parents=True)
        (root / f"{number // 100}" / f"{number}.txt").write_bytes(b"%08d" % number + os.urandom(FILE_BYTES - 8))


def name_files(around: Path, count: int) -> None:
    """The bound for small files: each is made, written and renamed, and nothing else."""
    (around / "temporary").mkdir()
    shards = [around / "named" / f"{number:02x}" for number in range(256)]
    for shard in shards:
        shard.mkdir(parents=True)
    data = os.urandom(FILE_BYTES)
    for number in range(count):
        path = around / "temporary" / str(number)
        path.write_bytes(data)
        path.rename(shards[number % 256] / str(number))


def small_files(around: Path, count: int) -> dict[str, float]:
    """A directory of many small files, there and back."""
    root = around / "root"
    make_files(root, count)
    os.sync()
    objects, other = DirectoryObjects(around / "small"), DirectoryObjects(around / "other")
    cache = around / "cache"
    bound_s, _ = timed(lambda: name_files(around, count))
    scan_s, scanned = timed(lambda: scan(root, cache=cache, now_ns=LATER_NS))
    scan_again_s, again = timed(lambda: scan(root, cache=cache, now_ns=LATER_NS))
    assert again.digest == scanned.digest
    os.sync()
    store_s, _ = timed(lambda: store_tree(objects, scanned))
    store_again_s, _ = timed(lambda: store_tree(objects, scanned))
    missing_s, missing = timed(lambda: objects.missing(scanned.digests()))
    assert not missing
    os.sync()
    pack_s, _ = timed(lambda: [decode(encode(batch), other) for batch in batches(scanned.items(scanned.digests()))])
    unpack_s, _ = timed(lambda: unpack(objects, scanned.digest, around / "unpacked"))
    singly = min(count, 1_000)
    os.sync()
    one_by_one_s, _ = timed(lambda: [objects.put(b"%d" % number + bytes(FILE_BYTES)) for number in range(singly)])
    sweep_s, swept = timed(lambda: objects.sweep({scanned.digest}, 0, LATER_NS))
    assert swept.kept == 1
    return {
        "files": count,
        "bound_make_and_rename_s": bound_s,
        "scan_s": scan_s,
        "scan_again_with_cache_s": scan_again_s,
        "store_s": store_s,
        "store_again_s": store_again_s,
        "ask_missing_s": missing_s,
        "send_as_packs_and_store_s": pack_s,
        "unpack_s": unpack_s,
        "sweep_s": sweep_s,
        "durable_put_in_batch_us": store_s / count * 1e6,
        "durable_put_alone_us": one_by_one_s / singly * 1e6,
        **peers(around, root),
    }


def peers(around: Path, root: Path) -> dict[str, float]:
    commands = {
        "cp": f"cp -r {root} {around}/cp",
        "tar": f"tar -cf - -C {root} . | tar -xf - -C {around}/tar",
        "git": f"git init -q {around}/git && git --git-dir {around}/git/.git --work-tree {root} add -A",
    }
    (around / "tar").mkdir()
    return {f"peer_{name}_s": shell_s(command) for name, command in commands.items() if shutil.which(name)}


def shell_s(command: str) -> float:
    return timed(lambda: subprocess.run(command, shell=True, check=True))[0]


def run(small: bool = False) -> dict[str, float]:
    """The figures, by name. Units: as in the names."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as made:
        around = Path(made)
        size_bytes, times, count = (2 * MIB, 1, 100) if small else (512 * MIB, 3, 10_000)
        return {"object_kib": size_bytes / KIB, **large(around, size_bytes, times), **small_files(around, count)}


if __name__ == "__main__":
    for name, figure in run(small="--small" in sys.argv).items():
        print(f"{name:32} {figure:>12,.3f}" if figure < 100 else f"{name:32} {figure:>12,.0f}")
