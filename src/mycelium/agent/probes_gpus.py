"""The gpus of this machine, of every vendor, as far as the kernel and the vendors' own libraries tell.

Read are files under /proc and /sys, which need no program and no right; NVIDIA's driver keeps the memory of its gpus
for its library, which is asked when it is there. A gpu without a driver is no gpu. None found is fine.
Source: the kernel's documentation of drm and amdgpu (gpu/amdgpu/driver-misc, ABI/testing/sysfs-driver-*), NVIDIA's
reference of NVML.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
from pathlib import Path
from typing import NamedTuple

from mycelium.base.units import format_size

VENDORS = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
NAME_LENGTH_MAX = 48  # a label has 128 characters, and the rest of it needs some
NVML = "libnvidia-ml.so.1"


class Gpu(NamedTuple):
    """`memory_bytes` 0: it has none of its own, or nobody says. `number`: the vendor's own for it."""

    vendor: str
    name: str
    uuid: str
    memory_bytes: int
    number: int

    def __str__(self) -> str:
        memory = format_size(self.memory_bytes) if self.memory_bytes else ""
        return " ".join(word for word in (self.vendor, self.name, memory, self.uuid) if word)


def gpus(root: Path = Path("/")) -> list[Gpu]:
    """All of them, those of one vendor together. `root`: where /proc, /sys and /dev are."""
    return [*_nvidia(root), *_drawn(root)]


def labels(found: list[Gpu]) -> dict[str, str]:
    """`gpu` and `gpu-model` are the first one's; then how many each vendor has, and each one by itself."""
    if not found:
        return {}
    told = {"gpu": found[0].vendor, "gpu-model": _word(f"{found[0].vendor} {found[0].name}")}
    for gpu in found:
        told[f"gpus-{gpu.vendor}"] = str(int(told.get(f"gpus-{gpu.vendor}", "0")) + 1)
    return told | {f"gpu-{number}": str(gpu) for number, gpu in enumerate(found[:16])}


def _nvidia(root: Path) -> list[Gpu]:
    """Those that have a driver and a device file."""
    memory = _nvml_memory() if root == Path("/") else {}
    found: list[Gpu] = []
    for path in sorted(root.glob("proc/driver/nvidia/gpus/*/information")):
        text = _read(path)
        said = dict(re.findall(r"^([\w ]+):\s*(.*\S)", text, re.MULTILINE))
        minor = said.get("Device Minor", "")
        if not minor.isdigit() or not (root / f"dev/nvidia{minor}").exists():
            continue
        uuid = said.get("GPU UUID", "")
        name = said.get("Model", "").removeprefix("NVIDIA ")[:NAME_LENGTH_MAX]
        found.append(Gpu("nvidia", name, "" if "?" in uuid else uuid, memory.get(uuid, 0), int(minor)))
    return sorted(found, key=lambda gpu: gpu.number)


def _nvml_memory() -> dict[str, int]:
    """Bytes by UUID, from NVIDIA's library; nothing when there is none, or it does not answer."""
    found: dict[str, int] = {}
    with contextlib.suppress(OSError, AttributeError):
        nvml = ctypes.CDLL(NVML)
        if nvml.nvmlInit_v2():
            return {}
        count = ctypes.c_uint()
        nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
        for number in range(count.value):
            device, uuid, memory = ctypes.c_void_p(), ctypes.create_string_buffer(96), (ctypes.c_ulonglong * 3)()
            if nvml.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(device)):
                continue
            nvml.nvmlDeviceGetUUID(device, uuid, 96)
            if not nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)):
                found[uuid.value.decode()] = memory[0]
        nvml.nvmlShutdown()
    return found


def _drawn(root: Path) -> list[Gpu]:
    """What the kernel's drm has a node to compute with, but NVIDIA's, which its own driver has told."""
    found: list[Gpu] = []
    computes = _kfd(root)
    for path in sorted(root.glob("sys/class/drm/renderD*"), key=lambda path: int(path.name[7:] or 0)):
        device = path / "device"
        vendor = VENDORS.get(_read(device / "vendor"))
        minor = int(path.name[7:])
        if vendor is None or (vendor == "nvidia" and (root / "proc/driver/nvidia").exists()):
            continue
        kfd = computes.get(minor, {})
        memory = _number(_read(device / "mem_info_vram_total")) or _number(_read(device / "lmem_total_bytes"))
        unique = _read(device / "unique_id") or (
            f"{int(kfd['unique_id']):016x}" if kfd.get("unique_id", "0") != "0" else ""
        )
        name = _read(device / "product_name") or kfd.get("name", "") or _read(device / "device").removeprefix("0x")
        found.append(Gpu(vendor, name[:NAME_LENGTH_MAX], unique, memory, minor))
    return sorted(found, key=lambda gpu: (gpu.vendor, gpu.number))


def _kfd(root: Path) -> dict[int, dict[str, str]]:
    """What AMD's compute driver says of each gpu, by its render node."""
    found: dict[int, dict[str, str]] = {}
    for node in root.glob("sys/class/kfd/kfd/topology/nodes/*"):
        said = dict(line.split(None, 1) for line in _read(node / "properties").splitlines() if " " in line)
        minor = _number(said.get("drm_render_minor", ""))
        if minor:
            found[minor] = said | {"name": _read(node / "name")}
    return found


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _word(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
