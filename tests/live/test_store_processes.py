"""Several processes in one store: at once, against a sweep, and killed in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mycelium.base.ids import Digest
from mycelium.store.directory import DirectoryObjects
from mycelium.store.objects import digest_of

OBJECTS = 60
DATAS = [b"%d" % number * 5000 for number in range(OBJECTS)]

PUT = f"""
import io, sys
from pathlib import Path
from mycelium.store.directory import DirectoryObjects

objects = DirectoryObjects(Path(sys.argv[1]), reserve_bytes=0)
datas = [b"%d" % number * 5000 for number in range({OBJECTS})]
print("ready", flush=True)
sys.stdin.readline()
for data in datas:
    print(objects.put(io.BytesIO(data * 20) if len(data) % 3 else data), flush=True)
with objects.batch() as batch:
    for data in datas:
        batch.put(data)
"""

# Makes one object old, puts it and looks whether it is there, while others sweep everything that is old.
AGE_AND_PUT = """
import os, sys
from pathlib import Path
from mycelium.store.directory import DirectoryObjects

objects = DirectoryObjects(Path(sys.argv[1]), reserve_bytes=0)
print("ready", flush=True)
sys.stdin.readline()
for number in range(1500):
    digest = objects.put(b"wanted")
    path = objects.root / digest[:2] / digest[2:]
    try:
        os.utime(path, ns=(0, 0))
    except FileNotFoundError:
        pass
    objects.put(b"wanted")
    if not path.exists():
        sys.exit(f"lost after {number} puts")
"""

SWEEP = """
import sys, time
from pathlib import Path
from mycelium.store.directory import DirectoryObjects

objects = DirectoryObjects(Path(sys.argv[1]), reserve_bytes=0)
removed = 0
print("ready", flush=True)
sys.stdin.readline()
while True:
    removed += objects.sweep(set(), older_than_ns=3600 * 10**9, now_ns=time.time_ns()).removed
    print(removed, flush=True)
"""


class Processes:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._started: list[subprocess.Popen[str]] = []

    def start(self, script: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(self._root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def end(self) -> None:
        for process in self._started:
            process.kill()
            process.communicate()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def processes(root: Path) -> Iterator[Processes]:
    made = Processes(root)
    yield made
    made.end()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def temporary_files(root: Path) -> list[Path]:
    return [path for path in (root / "tmp").iterdir() if path.suffix != ".lock"]


def test_processes_may_put_the_same_objects_at_once(root: Path, processes: Processes):
    started = [processes.start(PUT) for _ in range(3)]
    for process in started:
        go(process)
    told = [process.communicate(timeout=60) for process in started]
    assert [(process.returncode, errors) for process, (_, errors) in zip(started, told, strict=True)] == [(0, "")] * 3
    assert temporary_files(root) == []
    objects = DirectoryObjects(root, reserve_bytes=0)
    assert [objects.read(digest_of(data)) for data in DATAS] == DATAS


@pytest.mark.parametrize("after", [0, 7, OBJECTS])
def test_a_killed_writer_leaves_whole_objects_and_nothing_else(root: Path, processes: Processes, after: int):
    process = processes.start(PUT)
    go(process)
    assert process.stdout is not None
    answered = [Digest(process.stdout.readline().strip()) for _ in range(after)]
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    objects = DirectoryObjects(root, reserve_bytes=0)
    assert list((root / "tmp").iterdir()) == []
    assert [len(objects.read(digest)) > 0 for digest in answered] == [True] * after
    named = [Digest(shard.name + path.name) for shard in root.glob("[0-9a-f][0-9a-f]") for path in shard.iterdir()]
    assert set(answered) <= set(named)
    for digest in named:
        assert digest_of(objects.read(digest)) == digest


def test_what_was_answered_as_stored_is_never_swept_in_the_same_moment(root: Path, processes: Processes):
    sweeper = processes.start(SWEEP)
    putter = processes.start(AGE_AND_PUT)
    go(sweeper)
    go(putter)
    _, errors = putter.communicate(timeout=120)
    assert (putter.returncode, errors) == (0, "")
    sweeper.kill()
    told, _ = sweeper.communicate()
    assert int(told.splitlines()[-1]) > 0  # the sweep did come between, or nothing was tried


def test_a_forked_child_writes_beside_its_parent(root: Path):
    objects = DirectoryObjects(root, reserve_bytes=0)
    writing = objects.begin()
    writing.write(b"parent")
    child = os.fork()
    if child == 0:
        try:
            objects.put(b"child")
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert objects.read(writing.commit()) == b"parent"
    assert objects.has(digest_of(b"child"))
