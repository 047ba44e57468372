"""A Slurm of one node, from packages unpacked into a directory, and what it can do. Run by bench.peers.slurm.

Expects network, process and mount namespaces of its own: it takes Slurm's own ports, and what it starts ends with them.
As shipped: no scheduler parameter is set, two cpus. Tuned: the scheduler runs at once after each event and the node
claims eight cpus, so that eight tasks start while others end. Both go without accounting, cgroups and task plugins,
which would only slow it.
Source: slurm.conf(5) of Slurm 22.05.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from bench.peers.slurm import Slurm

ADDRESS = "192.0.2.1"  # of no network; Slurm's resolver wants an address that is not a loopback one
READY_S_MAX = 30
ARRAY_S_MAX = 120
CONFIGURATION = """
ClusterName=bench
SlurmctldHost={host}({address})
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
PluginDir={plugins}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
NodeName={host} NodeAddr={address} CPUs={cpus} RealMemory=1000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
TUNED = """
SlurmdParameters=config_overrides
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,sched_interval=1,bf_interval=1
"""


class Site:
    """The daemons and clients of one configuration."""

    def __init__(self, root: Path, folder: Path, tuning: str, cpus: int) -> None:
        self.root, self.folder, self.configuration = root, folder, folder / "slurm.conf"
        libraries = next(root.glob("usr/lib/*/slurm-wlm"))
        self.env = {
            **os.environ,
            "LD_LIBRARY_PATH": f"{libraries.parent}:{libraries}",
            "PATH": f"{root}/usr/bin:{root}/usr/sbin:{os.environ['PATH']}",
            "SLURM_CONF": str(self.configuration),
        }
        for name in ("state", "spool"):
            (folder / name).mkdir(parents=True)
        text = CONFIGURATION.format(
            host=socket.gethostname(), address=ADDRESS, folder=folder, plugins=libraries, cpus=cpus
        )
        self.configuration.write_text(tuning + text)
        self.job = folder / "job.sh"
        self.job.write_text("#!/bin/sh\ntrue\n")

    @contextmanager
    def up(self) -> Iterator[Site]:
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(1024))
        names = ("socket", "pid-file", "log-file", "seed-file")
        files = [f"--{name}={self.folder}/munge.{name.removesuffix('-file')}" for name in names]
        stepd = f"{self.root}/usr/sbin/slurmstepd-wlm"
        daemons = [
            self.begin("munged", "--foreground", "--force", f"--key-file={key}", *files),
            self.begin("slurmctld-wlm", "-D", "-L", f"{self.folder}/slurmctld.log"),
            self.begin("slurmd-wlm", "-D", "-L", f"{self.folder}/slurmd.log", "-d", stepd),
        ]
        try:
            wait_for(lambda: self.ask("sinfo", "-h", "-o", "%T").stdout.strip() == "idle", READY_S_MAX)
            yield self
        finally:
            for daemon in reversed(daemons):
                daemon.terminate()
            for daemon in daemons:
                daemon.wait(READY_S_MAX)

    def begin(self, *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{words[0]}.said").open("wb") as output:
            return subprocess.Popen(words, env=self.env, stdout=output, stderr=output, cwd=self.folder)

    def ask(self, *words: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, env=self.env, capture_output=True, text=True, cwd=self.folder, check=check)

    def srun_ms(self, count: int) -> float:
        self.ask("srun", "true", check=True)
        return statistics.median(timed_s(lambda: self.ask("srun", "true", check=True)) for _ in range(count)) * 1000

    def submits_per_s(self, count: int) -> float:
        """Held, so that only the submit is measured."""
        words = ("sbatch", "--hold", "--output=/dev/null", str(self.job))
        taken_s = timed_s(lambda: [self.ask(*words, check=True) for _ in range(count)])
        self.ask("scancel", "--user=root", check=True)
        self.wait_empty()
        return count / taken_s

    def array_per_s(self, count: int) -> float:
        begun = time.perf_counter()
        self.ask("sbatch", "--output=/dev/null", f"--array=0-{count - 1}", str(self.job), check=True)
        self.wait_empty()
        return count / (time.perf_counter() - begun)

    def wait_empty(self) -> None:
        def is_empty() -> bool:
            queue = self.ask("squeue", "-h")
            return queue.returncode == 0 and not queue.stdout.strip()

        wait_for(is_empty, ARRAY_S_MAX)


def wait_for(true: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            raise SystemExit(f"waited {seconds:.0f} s in vain")
        time.sleep(0.1)


def timed_s(deed: Callable[[], object]) -> float:
    begun = time.perf_counter()
    deed()
    return time.perf_counter() - begun


def figures(folder: Path, small: bool) -> Slurm:
    """Everything, in a minute or so: a task takes as long in an array of 40 as in one of 500."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"], check=True)
    root = folder / "root"
    with Site(root, folder / "shipped", "", 2).up() as site:
        version = site.ask("sinfo", "--version").stdout.split()[-1]
        srun_ms = site.srun_ms(3 if small else 20)
        submits_per_s = site.submits_per_s(5 if small else 200)
        shipped_per_s = site.array_per_s(4 if small else 40)
    with Site(root, folder / "tuned", TUNED, 8).up() as site:
        site.ask("srun", "true", check=True)
        tuned_per_s = site.array_per_s(10 if small else 200)
    return Slurm(f"Slurm {version} here", submits_per_s, shipped_per_s, tuned_per_s, srun_ms)


if __name__ == "__main__":
    print(json.dumps(asdict(figures(Path(sys.argv[1]), "--small" in sys.argv))))
