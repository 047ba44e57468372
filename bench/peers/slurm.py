"""Slurm's figures: measured now with a throw-away Slurm, or else as they were noted before.

Nothing is installed: Debian's packages are downloaded and unpacked into a temporary directory. Nothing is left behind
and no port of the machine is used: all of it runs in namespaces of its own, which end with their first process.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.alone import doing
from bench.peers import wanted

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins", "munge")
MEASURE_S_MAX = 240
UNPACK_S_MAX = 120
NAMESPACES = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc")


@dataclass(frozen=True)
class Slurm:
    """What one Slurm with one node did."""

    source: str
    submits_per_s: float  # a loop of `sbatch`
    shipped_per_s: float  # no-op array tasks, as shipped
    tuned_per_s: float  # and with its scheduler hurried
    srun_ms: float  # `srun true`, from start to end

    @property
    def submits(self) -> str:
        return f"{self.source}: a loop of sbatch {self.submits_per_s:.0f}/s, no fsync per job"

    @property
    def array(self) -> str:
        return f"{self.source}: {self.shipped_per_s:.1f}/s as shipped, {self.tuned_per_s:.1f}/s tuned, no sandbox"

    @property
    def latency(self) -> str:
        return f"{self.source}: `srun true` {self.srun_ms:.0f} ms from start to end, not durable, no sandbox"


NOTED = Slurm("Slurm 22.05, noted before on 2 cpus", 258, 3.4, 9.2, 28)


def slurm(small: bool) -> Slurm:
    """Measured where that is wanted and possible, else noted; the reason is in `source`."""
    if not wanted():
        return NOTED
    if os.geteuid() != 0 or not shutil.which("apt-get") or not shutil.which("unshare"):
        return instead("needs root on Debian")
    with tempfile.TemporaryDirectory(prefix="myc-slurm-") as folder:
        try:
            doing("Slurm: unpacking Debian's packages")
            unpack(Path(folder))
            doing("Slurm: srun, sbatch and arrays")
            return measure(Path(folder), small)
        except subprocess.CalledProcessError as error:
            return instead(f"{error.cmd[0]} ended with {error.returncode}: {(error.stderr or '').strip()[-200:]}")
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            return instead(str(error))


def instead(reason: str) -> Slurm:
    source = f"{NOTED.source} (not measured in this run: {reason})"
    return Slurm(source, NOTED.submits_per_s, NOTED.shipped_per_s, NOTED.tuned_per_s, NOTED.srun_ms)


def unpack(folder: Path) -> None:
    """Debian's packages into `folder`/root, without installing them."""
    debs = folder / "debs"
    (debs / "partial").mkdir(parents=True)
    own = ["-o", f"Dir::Cache::archives={debs}", "-o", "Debug::NoLocking=1", "-qq", "-y"]
    fetch = ["apt-get", *own, "install", "--no-install-recommends", "--download-only", "--reinstall", *PACKAGES]
    if quiet(fetch, check=False).returncode:
        lists = folder / "lists"
        (lists / "partial").mkdir(parents=True)
        own += ["-o", f"Dir::State::lists={lists}"]
        quiet(["apt-get", *own, "update"])
        quiet([*fetch, *own])
    for deb in sorted(debs.glob("*.deb")):
        quiet(["dpkg-deb", "-x", str(deb), str(folder / "root")])


def quiet(words: list[str], check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, check=check, capture_output=True, text=True, timeout=UNPACK_S_MAX)


def measure(folder: Path, small: bool) -> Slurm:
    """Run bench.peers.slurm_site in namespaces of its own; when it ends, so does all that it started."""
    words = [*NAMESPACES, sys.executable, "-m", "bench.peers.slurm_site", str(folder), *["--small"] * small]
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=MEASURE_S_MAX)
    return Slurm(**json.loads(done.stdout))
