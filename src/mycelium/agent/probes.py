"""What this machine has: devices, and the labels that jobs can ask for."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import shutil
import sys
from pathlib import Path

from mycelium.base.units import GIB, MIB

NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")
PCI_DEVICES = Path("/sys/bus/pci/devices")
AMD_VENDOR, DISPLAY_CLASSES = "0x1002", ("0x0300", "0x0302", "0x0380", "0x1200")
LINKS_MAX = 8
SYSTEM_MEMORY_SHARE = 10  # a tenth of the memory, but at most `SYSTEM_MEMORY_BYTES`, is kept for the system and for us
SYSTEM_MEMORY_BYTES = 2 * GIB


def cores() -> list[int]:
    """The cpus that we may use, by their numbers."""
    return sorted(os.sched_getaffinity(0))


def memory_bytes() -> int:
    """What steps may have in all: the machine's memory, or what a container grants, less a share for the system."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = _read(Path(path))
        if text.isdigit():
            total = min(total, int(text))
    return (total - min(total // SYSTEM_MEMORY_SHARE, SYSTEM_MEMORY_BYTES)) // MIB * MIB


def memory_used_bytes() -> int:
    found = dict(re.findall(r"(\w+):\s+(\d+) kB", _read(Path("/proc/meminfo"))))
    return (int(found.get("MemTotal", 0)) - int(found.get("MemAvailable", 0))) * 1024


def nvidia_gpus(driver: Path = NVIDIA_GPUS, dev: Path = Path("/dev")) -> list[int]:
    """The numbers of NVIDIA's gpus that have a driver and a device file: no program is run to find out."""
    minors: list[int] = []
    for information in sorted(driver.glob("*/information")):
        match = re.search(r"Device Minor:\s*(\d+)", _read(information))
        if match and (dev / f"nvidia{match[1]}").exists():
            minors.append(int(match[1]))
    return sorted(minors)


def amd_gpus(devices: Path = PCI_DEVICES) -> int:
    """How many of AMD's gpus there are. They are told by a label only: no step is given one yet."""
    found = 0
    for device in devices.glob("*"):
        if _read(device / "vendor") == AMD_VENDOR and _read(device / "class").startswith(DISPLAY_CLASSES):
            found += 1
    return found


def gpu_model(driver: Path = NVIDIA_GPUS) -> str:
    for information in sorted(driver.glob("*/information")):
        match = re.search(r"Model:\s*(.+)", _read(information))
        if match:
            return re.sub(r"[^a-z0-9]+", "-", match[1].strip().lower()).strip("-")
    return ""


def labels() -> dict[str, str]:
    """`arch` is the kernel's word for it; selectors know the others. A label of each backend of models that is here."""
    found = {
        "os": "linux",
        "arch": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    if nvidia_gpus():
        found |= {"gpu": "nvidia", "gpu-model": gpu_model()}
    elif amd_gpus():
        found["gpu"] = "amd"
    return found | backends()


def backends() -> dict[str, str]:
    """What can run the replicas of language models here, by the names that deployments call them."""
    found: dict[str, str] = {}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        found["llama.cpp"] = importlib.metadata.version("xllamacpp")
    if shutil.which("vllm") is not None:
        found["vllm"] = "yes"
    return found


def python_prefixes() -> tuple[str, ...]:
    """Where this Python and its virtual environment are, as far as that is not below /usr: sandboxes show them too."""
    found: dict[Path, None] = {}
    base = Path(sys.base_prefix)
    for prefix in (Path(sys.prefix), base, base.resolve(), *_links(Path(sys.executable))):
        if len(prefix.parts) > 1 and prefix.parts[1] not in ("usr", "bin") and prefix.is_dir():
            found[prefix] = None
    return tuple(str(prefix) for prefix in found)


def own_sources() -> tuple[str, ...]:
    """Where this package is, unless Python's prefixes hold it: what the site itself runs in a sandbox imports it."""
    own = Path(__file__).parents[1]
    return () if any(own.is_relative_to(prefix) for prefix in (*python_prefixes(), "/usr")) else (str(own),)


def _links(executable: Path) -> list[Path]:
    """The prefixes of every interpreter that `executable` is a symbolic link to, however many links there are."""
    prefixes: list[Path] = []
    for _ in range(LINKS_MAX):
        if not executable.is_symlink():
            break
        executable = Path(os.path.normpath(executable.parent / executable.readlink()))
        prefixes.append(executable.parent.parent)
    return prefixes


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
