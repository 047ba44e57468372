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
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from blake3 import blake3

from bench.alone import alone, doing
from bench.row import Row
from mycelium.base.ids import Digest
from mycelium.base.units import MIB
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


def median_s(times: int, deed: Callable[[], object]) -> float:
    return statistics.median(timed(deed)[0] for _ in range(times))


def write_plain(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_verified(objects: DirectoryObjects, digest: Digest) -> None:
    with objects.open(digest) as source:
        while source.read(CHUNK_BYTES):
            pass


def large(around: Path, size_bytes: int, times: int) -> list[Row]:
    """One large object."""
    data = os.urandom(MIB) * (size_bytes // MIB)
    objects = DirectoryObjects(around / "large")

    def put() -> None:
        objects.delete(digest)
        objects.put(data)

    def speed(deed: Callable[[], object]) -> float:
        return size_bytes / 1e6 / median_s(times, deed)

    doing(f"one object of {size_bytes // MIB} MiB")
    digest = objects.put(data)
    hashing = f"BLAKE3 on one cpu {speed(lambda: blake3(data).digest()):,.0f}"
    writing = f"plain write and fsync {speed(lambda: write_plain(around / 'plain', data)):,.0f}"
    copying = f"copy in memory {speed(lambda: bytearray(data)):,.0f}"
    size = f"{size_bytes // MIB} MiB"
    return [
        Row(f"put an object of {size}", speed(put), "MB/s", bound=f"{hashing}, {writing} MB/s"),
        Row("put it again", speed(lambda: objects.put(data)), "MB/s", bound=f"{hashing} MB/s"),
        Row("get it, verified", speed(lambda: read_verified(objects, digest)), "MB/s", bound=f"{copying} MB/s"),
    ]


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


def small_files(around: Path, count: int) -> list[Row]:
    """A directory of many small files, there and back."""
    doing(f"a directory of {count:,} files")
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
    doing("objects one by one")
    one_by_one_s, _ = timed(lambda: [objects.put(b"%d" % number + bytes(FILE_BYTES)) for number in range(singly)])
    sweep_s, swept = timed(lambda: objects.sweep({scanned.digest}, 0, LATER_NS))
    assert swept.removed > 0
    assert not objects.missing({scanned.digest})
    bound = f"make, write and rename {bound_s:.2f} s, not durable"
    return [
        Row(f"hash a directory of {count:,} files", scan_s, "s"),
        Row("hash it again, with the cache", scan_again_s, "s"),
        Row("store it, durably", store_s, "s", bound=bound, peers=peers(around, root)),
        Row("store it again", store_again_s, "s"),
        Row("ask what is missing", missing_s, "s"),
        Row("send it in packs and store it", pack_s, "s"),
        Row("unpack it", unpack_s, "s"),
        Row("sweep", sweep_s, "s", note=f"{swept.removed:,} objects"),
        Row("durable put of one object, in a batch", store_s / count * 1e6, "us"),
        Row("durable put of one object, alone", one_by_one_s / singly * 1e6, "us"),
    ]


def peers(around: Path, root: Path) -> str:
    """Copies of the same directory: by `cp` and `tar` without hash or fsync, by `git add` with hash and compression."""
    doing("cp, tar and git")
    commands = {
        "cp -r": f"cp -r {root} {around}/cp",
        "tar": f"tar -cf - -C {root} . | tar -xf - -C {around}/tar",
        "git add": f"git init -q {around}/git && git --git-dir {around}/git/.git --work-tree {root} add -A",
    }
    (around / "tar").mkdir()
    found = [f"{name} {shell_s(line):.2f} s" for name, line in commands.items() if shutil.which(name.split()[0])]
    return ", ".join(found) + ", none durable"


def shell_s(command: str) -> float:
    return timed(lambda: subprocess.run(command, shell=True, check=True))[0]


def run(small: bool = False) -> list[Row]:
    """All figures. Small: an object of 2 MiB and 100 files."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as made:
        around = Path(made)
        size_bytes, times, count = (2 * MIB, 1, 100) if small else (512 * MIB, 3, 10_000)
        return large(around, size_bytes, times) + small_files(around, count)


if __name__ == "__main__":
    alone("the store", run)
