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

from mycelium.agent import probes_disks, probes_gpus
from mycelium.base.units import GIB, MIB

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


def nvidia_gpus() -> list[int]:
    """The numbers of NVIDIA's gpus: those that a step can be given. The others are told by labels only."""
    return [gpu.number for gpu in probes_gpus.gpus() if gpu.vendor == "nvidia"]


def labels(home: Path) -> dict[str, str]:
    """`arch` is the kernel's word for it; selectors know the others. A label of each backend of models that is here.

    `home`: where the node keeps its state.
    """
    return {
        "os": "linux",
        "arch": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **probes_gpus.labels(probes_gpus.gpus()),
        **probes_disks.labels(home),
        **backends(),
    }


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
