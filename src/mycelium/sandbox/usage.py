"""What a step uses right now, seen from outside, where no cgroup counts it: its processes, memory and disk.

Payloads are watched, never trusted: every number is read from the kernel, and every walk is bounded.

Source: proc(5); Documentation/filesystems/proc.rst (smaps_rollup).
"""


# Paths are strings here, because this runs at the start of every step.
# ruff: noqa: PTH116, PTH208

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from typing import NamedTuple

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
INODE_BYTES = 512  # what an inode is charged for, so that empty files are not free
INODE_RESERVE_SHARE = 50  # a disk is short of inodes when less than one part in so many is left
FILES_LOOKED_AT_MAX = 4_000  # open files in one look: some milliseconds


class ProcessesUsed(NamedTuple):
    processes: int
    memory_bytes: int


def pids(proc: str = "/proc") -> list[int]:
    try:
        return [int(name) for name in os.listdir(proc) if name.isdigit()]
    except OSError:
        return []


def parents(proc: str = "/proc") -> dict[int, int]:
    """The parent of every process."""
    found: dict[int, int] = {}
    for pid in pids(proc):
        fields = stat_fields(pid, proc)
        if fields:
            found[pid] = int(fields[1])
    return found


def stat_fields(pid: int, proc: str = "/proc") -> list[bytes]:
    """The fields of /proc/<pid>/stat after the name (which may hold anything): state, parent, ...; [] if gone."""
    try:
        with open(f"{proc}/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2].split()
    except OSError:
        return []


def start_ticks(pid: int) -> int:
    """When this process began, in clock ticks since boot; with the pid, its identity. 0: it is gone, or a zombie."""
    fields = stat_fields(pid)
    return int(fields[19]) if fields and fields[0] not in (b"Z", b"X") else 0


def descendants(root: int) -> list[int]:
    """All processes below `root`, nearest first.

    Whole only when `root` is a subreaper: then an orphan's parent is `root` again, and nobody can leave the tree.
    """
    children: dict[int, list[int]] = {}
    for pid, parent in parents().items():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.pop(queue.pop(), [])
        found += below
        queue += below
    return found


def resident_bytes(pid: int, proc: str = "/proc") -> int:
    """What the process has in memory, shared pages counted whole. Cheap."""
    try:
        with open(f"{proc}/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * PAGE_BYTES
    except (OSError, IndexError):
        return 0


def fair_bytes(pid: int, proc: str = "/proc") -> tuple[int, int]:
    """Private and shared memory that nothing but this step can free: pages of files on disk do not count, shared pages
    count in parts. Costs a walk over the process's page tables."""
    sums = {b"Pss_Anon": 0, b"Pss_Shmem": 0, b"SwapPss": 0}
    try:
        with open(f"{proc}/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                name, _, value = line.partition(b":")
                if name in sums:
                    sums[name] = int(value.split()[0]) * 1024
    except OSError:
        return resident_bytes(pid, proc), 0
    return sums[b"Pss_Anon"] + sums[b"SwapPss"], sums[b"Pss_Shmem"]


def memory(members: Sequence[int], proc: str, files_bytes: int, more_than_bytes: int) -> ProcessesUsed:
    """Processes and memory of a step; exact only when the cheap upper bound is over `more_than_bytes`.

    `files_bytes` is what it holds in files in memory. What of them is also mapped is counted once.
    """
    upper_bytes = sum(resident_bytes(pid, proc) for pid in members) + files_bytes
    if upper_bytes <= more_than_bytes:
        return ProcessesUsed(len(members), upper_bytes)
    private_bytes = shared_bytes = 0
    for pid in members:
        private, shared = fair_bytes(pid, proc)
        private_bytes += private
        shared_bytes += shared
    return ProcessesUsed(len(members), private_bytes + max(shared_bytes, files_bytes))


def filled_bytes(path: str) -> int:
    """What a tmpfs holds."""
    try:
        about = os.statvfs(path)
    except OSError:
        return 0
    return (about.f_blocks - about.f_bfree) * about.f_frsize


def is_short(path: str, reserve_bytes: int) -> bool:
    """Whether the disk there has less than this left, or hardly an inode."""
    about = os.statvfs(path)
    return about.f_bavail * about.f_frsize < reserve_bytes or 0 < about.f_files // INODE_RESERVE_SHARE > about.f_favail


def disk(directory: str, enough_bytes: int) -> int:
    """Bytes that the tree takes on its disk, and something for each of its inodes. Stops early beyond `enough_bytes`.

    Walks with one open directory at a time: a hostile tree may be deeper than any path is long, or change meanwhile.
    """
    fd = os.open(directory, DIRECTORY)
    total, below = _level(fd)
    waiting = [below]  # names of directories still to enter, for each level that we are in
    try:
        while total <= enough_bytes:
            if waiting[-1]:
                inner = _enter(fd, waiting[-1].pop())
                if inner is None:
                    continue
                fd = inner
                size_bytes, below = _level(fd)
                total += size_bytes
                waiting.append(below)
            else:
                waiting.pop()
                outer = _enter(fd, "..") if waiting else None
                if outer is None:
                    break
                fd = outer
    finally:
        os.close(fd)
    return total


def _level(fd: int) -> tuple[int, list[str]]:
    """What the entries of this directory take, and the names of the directories among them."""
    total = 0
    below: list[str] = []
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                about = entry.stat(follow_symlinks=False)
                total += about.st_blocks * 512 + INODE_BYTES
                if stat.S_ISDIR(about.st_mode):
                    below.append(entry.name)
    except OSError:
        pass  # gone meanwhile, or closed to us: what is in it cannot be counted
    return total, below


def _enter(fd: int, name: str) -> int | None:
    """The directory `name` of `fd`, which is closed for it; None, and `fd` stays open, when it cannot be entered."""
    try:
        found = os.open(name, DIRECTORY, dir_fd=fd)
    except OSError:
        return None
    os.close(fd)
    return found


def nameless(processes: Iterable[int], proc: str) -> dict[int, int]:
    """Bytes of files that have no name and are only held open, by device: on a disk `disk` cannot see them, in memory
    (memfd_create(2), see `memory_files_device`) no resident set shows them.
    """
    seen: dict[tuple[int, int], int] = {}
    left = FILES_LOOKED_AT_MAX
    for pid in processes:
        directory = f"{proc}/{pid}/fd"
        try:
            names = os.listdir(directory)[:left]
        except OSError:
            continue
        left -= len(names)
        for name in names:
            try:
                about = os.stat(f"{directory}/{name}")
            except OSError:
                continue
            if about.st_nlink == 0 and stat.S_ISREG(about.st_mode):
                seen[about.st_dev, about.st_ino] = about.st_blocks * 512
    sums: dict[int, int] = {}
    for (device, _), size_bytes in seen.items():
        sums[device] = sums.get(device, 0) + size_bytes
    return sums


def memory_files_device() -> int:
    """The device of files that memfd_create makes."""
    fd = os.memfd_create("device")
    try:
        return os.fstat(fd).st_dev
    finally:
        os.close(fd)
