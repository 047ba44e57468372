"""Disks by tier, on pretended machines."""

from __future__ import annotations

import os
from pathlib import Path

from mycelium.agent import probes_disks
from mycelium.agent.probes_disks import FLASH, NVME, ROTATING, disks, tier_of


def disk(sys: Path, name: str, sectors: int, rotational: str) -> Path:
    path = sys / "block" / name
    (path / "queue").mkdir(parents=True)
    (path / "size").write_text(f"{sectors}\n")
    (path / "queue" / "rotational").write_text(f"{rotational}\n")
    return path


def here_is(sys: Path, directory: Path, device: Path) -> None:
    number = directory.stat().st_dev
    (sys / "dev" / "block").mkdir(parents=True)
    (sys / "dev" / "block" / f"{os.major(number)}:{os.minor(number)}").symlink_to(device)


def test_disks_add_up_by_tier_and_what_is_no_disk_is_left_out(tmp_path: Path) -> None:
    disk(tmp_path, "nvme0n1", 1000, "0")
    disk(tmp_path, "sda", 2000, "1")
    disk(tmp_path, "sdb", 3000, "1")
    disk(tmp_path, "sdc", 4000, "0")
    disk(tmp_path, "loop0", 5000, "0")
    disk(tmp_path, "sdd", 0, "0")
    assert disks(tmp_path) == {NVME: 512_000, ROTATING: 2_560_000, FLASH: 2_048_000}


def test_a_directory_lies_on_the_disk_of_its_partition(tmp_path: Path) -> None:
    path = disk(tmp_path, "sda", 2000, "1")
    (path / "sda1").mkdir()
    (path / "sda1" / "partition").write_text("1\n")
    here_is(tmp_path, tmp_path, path / "sda1")
    assert tier_of(tmp_path, tmp_path) == ROTATING


def test_what_several_disks_make_up_is_as_slow_as_the_slowest(tmp_path: Path) -> None:
    array = disk(tmp_path, "md0", 2000, "0")
    (array / "slaves").mkdir()
    for name, rotational in (("nvme0n1", "0"), ("sda", "1")):
        (array / "slaves" / name).symlink_to(disk(tmp_path, name, 1000, rotational))
    here_is(tmp_path, tmp_path, array)
    assert tier_of(tmp_path, tmp_path) == ROTATING


def test_a_directory_in_memory_is_said_so() -> None:
    if Path("/dev/shm").is_dir():
        assert probes_disks.tier_of(Path("/dev/shm")) == probes_disks.MEMORY
