"""Against a directory that looks like cgroup v2."""

from __future__ import annotations

from pathlib import Path

import pytest

from mycelium.base.limits import STEP_PROCESSES_MAX
from mycelium.base.units import MIB
from mycelium.sandbox import cgroup
from mycelium.sandbox.cgroup import Group


def group_at(path: Path, *, controllers: str = "cpu memory pids", handed_down: str = "") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "cgroup.controllers").write_text(controllers)
    (path / "cgroup.subtree_control").write_text(handed_down)
    (path / "cgroup.procs").write_text("")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return group_at(tmp_path / "root", handed_down="cpu memory pids")


@pytest.fixture
def membership(tmp_path: Path) -> Path:
    path = tmp_path / "membership"
    path.write_text("4:memory:/v1\n0::/user/agent\n")
    return path


def test_the_own_group_is_read_from_the_line_of_version_two(root: Path, membership: Path) -> None:
    assert cgroup.own(root, membership) == root / "user" / "agent"


def test_a_host_without_version_two_has_no_own_group(root: Path, tmp_path: Path) -> None:
    assert cgroup.own(root, tmp_path / "missing") is None
    (tmp_path / "v1").write_text("4:memory:/v1\n")
    assert cgroup.own(root, tmp_path / "v1") is None


def test_the_nearest_group_with_all_controllers_is_found(root: Path, membership: Path) -> None:
    group_at(root / "user", handed_down="cpu memory pids")
    group_at(root / "user" / "agent", controllers="memory pids")
    assert cgroup.find(root, membership) == root / "user"


def test_controllers_that_are_there_but_not_handed_down_are_asked_for(root: Path, membership: Path) -> None:
    user = group_at(root / "user", handed_down="pids")
    group_at(root / "user" / "agent", controllers="pids")
    assert cgroup.find(root, membership) == user
    assert (user / "cgroup.subtree_control").read_text() == "+cpu +memory"


def test_without_a_controller_that_counts_there_is_none(tmp_path: Path, membership: Path) -> None:
    group_at(tmp_path / "bare", controllers="")
    assert cgroup.find(tmp_path / "bare", membership) is None
    assert cgroup.find(tmp_path / "nothing", membership) is None


def test_a_group_is_made_with_the_limits_of_its_step(root: Path) -> None:
    group = Group(root / "step")
    group.make(memory_bytes=64 * MIB, cpu_m=1500)
    written = {path.name: path.read_text() for path in (root / "step").iterdir()}
    assert written == {
        "memory.max": str(64 * MIB),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": str(STEP_PROCESSES_MAX),
        "cpu.max": "150000 100000",
    }


def test_joining_a_group_that_is_gone_is_an_error(root: Path) -> None:
    with pytest.raises(OSError, match=r"cgroup\.procs"):
        Group(root / "gone").join()


def test_what_the_kernel_counted_is_read(root: Path) -> None:
    path = root / "step"
    path.mkdir()
    (path / "cpu.stat").write_text("usage_usec 1234567\nuser_usec 1\n")
    (path / "memory.peak").write_text("4096\n")
    (path / "memory.current").write_text("2048\n")
    (path / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    group = Group(path)
    assert (group.cpu_ms(), group.memory_peak_bytes(), group.memory_bytes()) == (1234, 4096, 2048)
    assert group.killed_for_memory()


def test_what_an_older_kernel_does_not_count_is_zero(root: Path) -> None:
    group = Group(root / "missing")
    assert (group.cpu_ms(), group.memory_peak_bytes(), group.killed_for_memory()) == (0, 0, False)


def test_removing_a_group_that_is_gone_is_done(root: Path) -> None:
    (root / "step").mkdir()
    assert Group(root / "step").remove()
    assert not (root / "step").exists()
    assert Group(root / "step").remove()


def test_a_group_that_cannot_be_removed_is_told_to_kill_and_given_up(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup, "REMOVE_TRIES", 2)
    monkeypatch.setattr(cgroup, "REMOVE_WAIT_S", 0)
    path = root / "step"
    path.mkdir()
    (path / "busy").touch()
    assert not Group(path).remove()
    assert (path / "cgroup.kill").read_text() == "1"
