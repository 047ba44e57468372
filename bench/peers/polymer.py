"""Ray, Dask distributed and joblib: measured in a throw-away environment when `--peers` is given, else as noted before.

Never: installs anything into the project's own environment, or fails a benchmark.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.alone import doing
from bench.peers import wanted

PACKAGES = ("ray==2.60.0", "dask==2026.8.0", "distributed==2026.8.0", "joblib", "numpy")
LOOSE = ("ray", "dask", "distributed", "joblib", "numpy")  # where those versions cannot be had
INSTALL_S_MAX = 400
MEASURE_S_MAX = 400
SCRIPT = Path(__file__).with_name("polymer_tasks.py")


@dataclass(frozen=True)
class Peers:
    """What each peer did, by its name; `source` says whether that was now."""

    source: str
    figures: dict[str, dict[str, float]]

    def said(self, figure: str, form: str) -> str:
        """`Ray 1,600/s, Dask 560/s`, of those that have the figure."""
        told = [f"{name} {form.format(held[figure])}" for name, held in self.figures.items() if figure in held]
        return f"{self.source}{', '.join(told)}" if told else ""


NOTED = Peers(
    "noted before on 2 cpus: ",
    {
        "Ray": {"round_trip_us": 2_000, "calls_per_s": 1_600, "start_s": 6},
        "Dask": {"round_trip_us": 9_000, "calls_per_s": 560, "start_s": 1.5},
        "loky": {"calls_per_s": 3_600},
    },
)


def peers(small: bool, folder: Path) -> Peers:
    """Measured where that is wanted and possible, else noted."""
    if not wanted():
        return NOTED
    try:
        python = install(folder)
        return Peers("", measure(python, small))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return Peers(f"cannot be had now ({type(error).__name__}); {NOTED.source}", NOTED.figures)


def install(folder: Path) -> Path:
    doing("installing Ray, Dask and joblib into a throw-away environment")
    tools = Path(__file__).parents[2] / ".tools" / "uv"
    uv = shutil.which("uv") or (str(tools) if tools.is_file() else None)
    place = folder / "venv"
    python = place / "bin" / "python"
    if uv:
        subprocess.run(
            [uv, "venv", "--python", sys.executable, str(place)], capture_output=True, timeout=INSTALL_S_MAX, check=True
        )
        command = [uv, "pip", "install", "--python", str(python)]
    else:
        subprocess.run(
            [sys.executable, "-m", "venv", str(place)], capture_output=True, timeout=INSTALL_S_MAX, check=True
        )
        command = [str(python), "-m", "pip", "install", "--quiet"]
    try:
        subprocess.run([*command, *PACKAGES], capture_output=True, timeout=INSTALL_S_MAX, check=True)
    except subprocess.CalledProcessError:
        subprocess.run([*command, *LOOSE], capture_output=True, timeout=INSTALL_S_MAX, check=True)
    return python


def measure(python: Path, small: bool) -> dict[str, dict[str, float]]:
    """Each peer in a process of its own."""
    found: dict[str, dict[str, float]] = {}
    settings = {"RAY_worker_niceness": "0", "RAY_DEDUP_LOGS": "0", "OMP_NUM_THREADS": "1"}
    root = str(Path(__file__).parents[2])
    for name in ("Ray", "Dask", "joblib"):
        doing(f"measuring {name}")
        done = subprocess.run(
            [str(python), str(SCRIPT), name, "small" if small else "full"],
            env={**os.environ, **settings, "PYTHONPATH": root},
            capture_output=True,
            timeout=MEASURE_S_MAX,
            check=True,
            text=True,
        )
        found[name] = json.loads(done.stdout.strip().rpartition("\n")[2])
    return found
