from __future__ import annotations

import os
from pathlib import Path

from mycelium.base.units import MIB
from mycelium.sandbox import usage


def proc(root: Path, pid: int, *, name: str = "x", state: str = "S", parent: int = 1, ticks: int = 5) -> None:
    fields = [state, str(parent), *["0"] * 17, str(ticks), *["0"] * 20]
    (root / str(pid)).mkdir(parents=True)
    (root / str(pid) / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")


def test_a_process_with_a_hostile_name_is_read_right(tmp_path: Path) -> None:
    proc(tmp_path, 7, name="a) S 99 (b) R 98", parent=3)
    assert usage.parents(str(tmp_path)) == {7: 3}


def test_ourselves_are_found_below_our_parent() -> None:
    assert os.getpid() in usage.descendants(os.getppid())
    assert usage.start_ticks(os.getpid()) > 0


def test_a_pid_that_nobody_has_has_no_start() -> None:
    assert usage.start_ticks(2**22 + 1) == 0


def test_memory_is_exact_only_when_it_may_be_too_much(tmp_path: Path) -> None:
    for pid in (1, 2):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "statm").write_text("9999 2560 100 0 0 0 0")  # 10 MiB each, by pages of 4 KiB
        (tmp_path / str(pid) / "smaps_rollup").write_text(
            "00-ff ---p 0 00:00 0 [rollup]\nPss:  9 kB\nPss_Anon:  1024 kB\nPss_Shmem:  512 kB\nSwapPss:  256 kB\n"
        )
    upper = usage.memory([1, 2], str(tmp_path), files_bytes=0, more_than_bytes=100 * MIB)
    assert upper == usage.ProcessesUsed(2, 2 * 2560 * usage.PAGE_BYTES)
    exact = usage.memory([1, 2], str(tmp_path), files_bytes=0, more_than_bytes=MIB)
    assert exact == usage.ProcessesUsed(2, 2 * (1024 + 256 + 512) * 1024)


def test_a_file_in_memory_that_is_also_mapped_counts_once(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "statm").write_text("9999 9999 100 0 0 0 0")
    (tmp_path / "1" / "smaps_rollup").write_text("Pss_Anon: 0 kB\nPss_Shmem: 4096 kB\n")
    assert usage.memory([1], str(tmp_path), files_bytes=4 * MIB, more_than_bytes=0).memory_bytes == 4 * MIB


def test_processes_that_have_gone_count_nothing(tmp_path: Path) -> None:
    assert usage.memory([1, 2], str(tmp_path), files_bytes=0, more_than_bytes=0) == usage.ProcessesUsed(2, 0)


def test_a_tree_on_disk_is_summed_without_following_links(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep" / "deeper").mkdir(parents=True)
    (tree / "a").write_bytes(bytes(MIB))
    (tree / "deep" / "b").write_bytes(bytes(MIB))
    (tree / "deep" / "deeper" / "c").write_bytes(bytes(MIB))
    (tmp_path / "outside").write_bytes(bytes(50 * MIB))
    (tree / "deep" / "out").symlink_to(tmp_path)
    assert 3 * MIB <= usage.disk(str(tree), 1 << 40) < 4 * MIB


def test_a_sparse_file_counts_what_it_takes(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert usage.disk(str(tmp_path), 1 << 50) < MIB


def test_empty_files_are_not_free(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / str(number)).touch()
    assert usage.disk(str(tmp_path), 1 << 40) >= 100 * usage.INODE_BYTES


def test_a_sum_stops_once_it_is_enough(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(bytes(MIB))
    assert MIB <= usage.disk(str(tmp_path), MIB // 2) < 2 * MIB


def test_a_tree_deeper_than_a_path_is_long_is_summed(tmp_path: Path) -> None:
    start = Path.cwd()
    (tmp_path / "top").mkdir()
    os.chdir(tmp_path / "top")
    try:
        for _ in range(60):
            Path("d" * 100).mkdir()
            os.chdir("d" * 100)
        Path("file").write_bytes(bytes(MIB))
    finally:
        os.chdir(start)
    assert usage.disk(str(tmp_path / "top"), 1 << 40) >= MIB


def test_files_without_a_name_are_found_by_device(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.write(bytes(MIB))
        file.flush()
        device = path.stat().st_dev
        before = usage.nameless([os.getpid()], "/proc").get(device, 0)
        path.unlink()
        assert usage.nameless([os.getpid()], "/proc").get(device, 0) - before >= MIB


def test_files_in_memory_are_found_under_their_device() -> None:
    fd = os.memfd_create("test")
    try:
        before = usage.nameless([os.getpid()], "/proc").get(usage.memory_files_device(), 0)
        os.write(fd, bytes(MIB))
        assert usage.nameless([os.getpid()], "/proc")[usage.memory_files_device()] - before == MIB
    finally:
        os.close(fd)
