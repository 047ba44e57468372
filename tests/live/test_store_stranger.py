"""A stranger's process swaps files and directories for links to a secret while a privileged reader collects them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mycelium.store.collect import collect
from mycelium.store.memory import MemoryObjects
from mycelium.store.objects import digest_of
from mycelium.store.survey import Skipped
from mycelium.store.tree import EntryKind, read_tree

SWAP = """
import os, sys
root, outside = sys.argv[1:]
os.chdir(root)
print("ready", flush=True)
while True:
    os.symlink(f"{outside}/secret", "link")
    os.rename("link", "file")
    with open("new", "wb") as new:
        new.write(b"harmless")
    os.rename("new", "file")
    os.rename("directory", "aside")
    os.symlink(outside, "directory")
    for _ in range(20):
        os.stat("directory")
    os.unlink("directory")
    os.rename("aside", "directory")
"""


@pytest.fixture
def swapped(tmp_path: Path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    for directory in (root / "directory", outside):
        directory.mkdir(parents=True)
        (directory / "secret").write_bytes(b"harmless" if directory != outside else b"secret")
    (root / "file").write_bytes(b"harmless")
    process = subprocess.Popen(
        [sys.executable, "-c", SWAP, str(root), str(outside)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield root
    assert process.poll() is None, process.stderr and process.stderr.read()
    process.kill()
    process.communicate()


def test_no_race_makes_the_collector_read_a_file_elsewhere(swapped: Path):
    objects = MemoryObjects()
    kinds: set[EntryKind] = set()
    told: list[Skipped] = []
    rounds = 0
    led_away = Skipped("directory/secret", "cannot be read: Not a directory")
    # Until the stranger was quick enough to be met in both ways, so that there was something to be confused by.
    while rounds < 1000 or len(kinds) < 2 or led_away not in told:
        rounds += 1
        assert rounds < 50_000, "the stranger was never met"
        digest = collect(swapped, ["file", "directory/*"], objects, tell=told.append)
        if digest is not None:
            kinds |= {entry.kind for entry in read_tree(objects, digest).entries if entry.path == "file"}
        assert not objects.has(digest_of(b"secret"))
    assert objects.has(digest_of(b"harmless"))
