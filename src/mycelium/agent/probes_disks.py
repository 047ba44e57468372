"""The disks of this machine by tier: how much there is of each, and on which one a directory lies.

Source: the kernel's ABI/stable/sysfs-block (`size` in sectors of 512 bytes, `queue/rotational`).
"""

from __future__ import annotations

import os
from pathlib import Path

from mycelium.base.units import format_size

SECTOR_BYTES = 512
NO_DISKS = ("loop", "ram", "zram", "sr", "fd", "dm-", "md", "nbd")  # parts of others, in memory, or removable
MEMORY, NVME, FLASH, ROTATING = "memory", "nvme", "flash", "rotating"
STEPS_MAX = 8  # from a partition, over what lies below it, to a disk


def disks(sys: Path = Path("/sys")) -> dict[str, int]:
    """Bytes of each tier."""
    found: dict[str, int] = {}
    for disk in sorted(sys.glob("block/*")):
        size_bytes = int(_read(disk / "size") or 0) * SECTOR_BYTES
        if size_bytes and not disk.name.startswith(NO_DISKS):
            tier = _tier(disk)
            found[tier] = found.get(tier, 0) + size_bytes
    return found


def tier_of(directory: Path, sys: Path = Path("/sys")) -> str:
    """The tier that a directory lies on; empty when nobody says, as on a network's file system."""
    device = directory.stat().st_dev
    if os.major(device):
        return _below(sys / "dev" / "block" / f"{os.major(device)}:{os.minor(device)}")
    kinds = {words[4]: words[-3] for words in map(str.split, _read(Path("/proc/self/mountinfo")).splitlines())}
    here = directory.resolve()
    mount = next((str(place) for place in (here, *here.parents) if str(place) in kinds), "")
    return MEMORY if kinds.get(mount) in ("tmpfs", "ramfs") else ""


def labels(home: Path, sys: Path = Path("/sys")) -> dict[str, str]:
    told = {f"disk-{tier}": format_size(size_bytes) for tier, size_bytes in disks(sys).items()}
    tier = tier_of(home, sys)
    return told | ({"disk": tier} if tier else {})


def _below(device: Path) -> str:
    """Of what a partition, or a device that others make up, lies on: the slowest."""
    for _ in range(STEPS_MAX):
        if (device / "partition").exists():
            device = device.resolve().parent
        parts = sorted(device.glob("slaves/*"))
        if not parts:
            return _tier(device.resolve())
        if len(parts) > 1:
            tiers = [_below(part) for part in parts]
            return next((tier for tier in (ROTATING, FLASH, NVME) if tier in tiers), "")
        device = parts[0]
    return ""


def _tier(disk: Path) -> str:
    if disk.name.startswith("nvme"):
        return NVME
    return {"1": ROTATING, "0": FLASH}.get(_read(disk / "queue" / "rotational"), "")


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
