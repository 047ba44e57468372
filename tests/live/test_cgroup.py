"""Control groups of a real kernel. Killing and counting cpu time need no controller: most machines can run this."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mycelium.base.units import MIB
from mycelium.sandbox.cgroup import Group
from tests.live.conformance.play import processes_of
from tests.live.test_shim import keep, log, prepare, status


def mount() -> Path | None:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2" and os.access(place, os.W_OK):
            return Path(place)
    return None


@pytest.fixture
def group() -> Iterator[Group]:
    place = mount()
    if place is None:
        pytest.skip("no cgroup v2 that we may write to is mounted")
    path = place / f"mycelium-test-{os.getpid()}-{time.monotonic_ns()}"
    try:
        path.mkdir()
        path.rmdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield Group(path)
    Group(path).remove()


def test_a_group_ends_whole_with_everything_that_was_ever_in_it(group: Group) -> None:
    group.make(64 * MIB, 1000)
    script = f"echo $$ >{group.path}/cgroup.procs; setsid sleep 600 & (setsid setsid sleep 600 &) ; sleep 600"
    child = subprocess.Popen(["sh", "-c", script])
    while len((group.path / "cgroup.procs").read_text().split()) < 4:
        time.sleep(0.01)
    assert group.remove()
    assert not group.path.exists()
    assert child.wait(10) == -9


def test_the_steps_of_a_shim_run_in_their_group_and_leave_none(group: Group, tmp_path: Path) -> None:
    text = "cat /proc/self/cgroup; (setsid sleep 600 &) ; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; exit 3"
    step = prepare(tmp_path / "step", text, cgroup=str(group.path))
    keep(step)
    found = status(step)
    assert found["exit_code"] == 3
    assert f"/{group.path.name}\n" in log(step).decode()
    assert found["cpu_ms"] > 0
    assert not group.path.exists()
    assert processes_of(step) == {}


def test_a_group_that_cannot_be_made_fails_the_start(tmp_path: Path) -> None:
    step = prepare(tmp_path / "step", "true", cgroup="/proc/no-such-group")
    keep(step)
    assert status(step)["reason"] == "failed-start"
