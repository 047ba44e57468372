"""Gpus, on pretended machines: the files that the drivers of each vendor show."""

from __future__ import annotations

from pathlib import Path

from mycelium.agent.probes_gpus import Gpu, gpus, labels
from mycelium.base.units import GIB


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def nvidia(root: Path, slot: str, minor: int, *, device: bool = True) -> None:
    about = f"Model: \t\t NVIDIA H200\nIRQ:   \t\t 0\nGPU UUID: \t GPU-0{minor}\nDevice Minor: \t {minor}"
    write(root / "proc/driver/nvidia/gpus" / slot / "information", about)
    if device:
        write(root / f"dev/nvidia{minor}", "")


def drawn(root: Path, minor: int, vendor: str, **files: str) -> None:
    for name, text in {"vendor": vendor, "device": "0x56a0", **files}.items():
        write(root / f"sys/class/drm/renderD{minor}/device" / name, text)


def test_nvidias_are_counted_by_driver_and_device_file_and_not_twice(tmp_path: Path) -> None:
    nvidia(tmp_path, "0000:01:00.0", 1)
    nvidia(tmp_path, "0000:00:00.0", 0)
    nvidia(tmp_path, "0000:02:00.0", 2, device=False)
    drawn(tmp_path, 128, "0x10de")
    assert gpus(tmp_path) == [Gpu("nvidia", "H200", "GPU-00", 0, 0), Gpu("nvidia", "H200", "GPU-01", 0, 1)]


def test_amds_have_a_name_a_uuid_and_memory(tmp_path: Path) -> None:
    more = {"mem_info_vram_total": str(24 * GIB), "unique_id": "1f2e3d4c5b6a7988", "product_name": "Radeon PRO W7900"}
    drawn(tmp_path, 128, "0x1002", **more)
    assert gpus(tmp_path) == [Gpu("amd", "Radeon PRO W7900", "1f2e3d4c5b6a7988", 24 * GIB, 128)]


def test_what_amds_display_driver_leaves_out_its_compute_driver_says(tmp_path: Path) -> None:
    drawn(tmp_path, 129, "0x1002", mem_info_vram_total=str(8 * GIB))
    node = tmp_path / "sys/class/kfd/kfd/topology/nodes/1"
    write(node / "properties", "cpu_cores_count 0\nunique_id 255\ndrm_render_minor 129")
    write(node / "name", "gfx1030")
    assert gpus(tmp_path) == [Gpu("amd", "gfx1030", "00000000000000ff", 8 * GIB, 129)]


def test_a_mixed_machine_tells_of_each_by_labels(tmp_path: Path) -> None:
    nvidia(tmp_path, "0000:00:00.0", 0)
    drawn(tmp_path, 129, "0x8086")
    drawn(tmp_path, 130, "0x1002", mem_info_vram_total=str(8 * GIB), product_name="X")
    drawn(tmp_path, 131, "0x1af4")  # a virtual machine's display
    assert labels(gpus(tmp_path)) == {
        "gpu": "nvidia",
        "gpu-model": "nvidia-h200",
        "gpus-nvidia": "1",
        "gpus-amd": "1",
        "gpus-intel": "1",
        "gpu-0": "nvidia H200 GPU-00",
        "gpu-1": "amd X 8G",
        "gpu-2": "intel 56a0",
    }


def test_none_is_fine(tmp_path: Path) -> None:
    assert labels(gpus(tmp_path)) == {}
