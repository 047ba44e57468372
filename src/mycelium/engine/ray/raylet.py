"""Ray's processes on this machine, as children in a session of their own: start, find again, end.

They outlive whoever started them, so that a head that is killed finds its Ray again. All of them carry `MARK` in their
environment; ending them is killing what carries it. Never `ray stop`, which kills every Ray of the host by name.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from msgspec import Struct

from mycelium.base import files
from mycelium.base.appended import appended
from mycelium.base.errors import Denied, Unavailable
from mycelium.base.home import RayFiles
from mycelium.base.units import GIB, MIB
from mycelium.carry.wire import PorterIdentity
from mycelium.pools.ray import offer as pool_offer
from mycelium.sandbox import process, usage
from mycelium.sandbox.process import Process

MARK = "MYC_RAY_DIRECTORY"
STORE_BYTES_MIN = 80 * MIB  # Ray's own least, with a little to spare
GONE_WAIT_S = 10.0
STORE_SHARE, STORE_BYTES_MAX = 10, 8 * GIB  # one part in so many of the machine's memory, for values of programs
ENVIRONMENT_BYTES_MAX = 1 << 18

# Ray's own word on who is dead comes late on purpose: suspicion is ours, and a raylet that Ray has given up must be
# started again, which costs seconds that a link down for a moment is not worth.
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_worker_niceness": "0",
    "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL": "minor",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    "RAY_health_check_initial_delay_ms": "5000",
    "RAY_health_check_period_ms": "2000",
    "RAY_health_check_timeout_ms": "4000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_BACKEND_LOG_LEVEL": "warning",
}


class Tls(Struct, frozen=True):
    """Files: the site's CA, and this machine's certificate and key."""

    ca: Path
    certificate: Path
    key: Path

    @property
    def site(self) -> PorterIdentity:
        """As porters want it."""
        return PorterIdentity(self.certificate, self.key)


class RayletPlace(Struct, frozen=True):
    """What one machine's Ray is told. `head` empty: it is the first one and has the GCS, at `port`."""

    directory: Path  # ours, 0700: the pid file, the token, the log
    machine: str  # our own name for the machine: Ray's names differ in every life
    address: str = "127.0.0.1"
    head: str = ""
    port: int = 0
    cpus: int = 1
    gpus: int = 0
    store_bytes: int = 0  # for Ray's objects; 0: a share of the machine's memory, taken only as it is used
    tls: Tls | None = None


def environment(directory: Path, tls: Tls | None = None) -> dict[str, str]:
    """The variables that every process of Ray needs, drivers too."""
    found = {**os.environ, **ENVIRONMENT, "RAY_AUTH_TOKEN_PATH": str(RayFiles(directory).token)}
    if tls is not None:
        found |= {
            "RAY_USE_TLS": "1",
            "RAY_TLS_SERVER_CERT": str(tls.certificate),
            "RAY_TLS_SERVER_KEY": str(tls.key),
            "RAY_TLS_CA_CERT": str(tls.ca),
        }
    return found


def keep_token(directory: Path, token: str = "") -> str:
    """Ray's own token in its file, 0600 from the first: a new one unless one is given or there already."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = RayFiles(directory).token
    if not token:
        with contextlib.suppress(FileNotFoundError):
            return path.read_text().strip()
    token = token or secrets.token_hex(32)
    files.write(path, token, durable=True)
    return token


def free_port(address: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as trial:
        try:
            trial.bind((address, 0))
        except OSError as error:
            raise Unavailable(
                f"{address} is not an address of this machine: {error.strerror}", hint="`ip address` lists them"
            ) from None
        return trial.getsockname()[1]


class Raylet:
    """Ray on this machine."""

    def __init__(self, place: RayletPlace) -> None:
        self.place = place
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def directory(self) -> Path:
        return self.place.directory

    @property
    def files(self) -> RayFiles:
        return RayFiles(self.directory)

    @property
    def environment(self) -> dict[str, str]:
        return environment(self.directory, self.place.tls)

    def living(self) -> Process | None:
        """The supervisor of Ray's processes here, whoever started it; it ends when one of them does."""
        self.reap()
        found = process.read(str(self.files.pid))
        return found if found is not None and found.lives() else None

    def reap(self) -> None:
        if self._child is not None:
            self._child.poll()

    def start(self) -> Process:
        """Start anew; what an earlier life left is ended first."""
        self.kill()
        keep_token(self.directory)
        with appended(self.files.log) as output:
            self._child = subprocess.Popen(
                self._words(),
                env=self.environment | {MARK: str(self.directory)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
            )
        pid = self._child.pid
        found = Process(pid, usage.start_ticks(pid), process.boot_id(), time.time_ns())
        files.write(self.files.port, str(self.place.port))
        files.write(self.files.pid, found.encode())
        address = self.place.head or f"{self.place.address}:{self.place.port}"
        pool_offer.keep(self.directory.parent, address, self.environment)
        return found

    def port(self) -> int:
        """Where the GCS that lives here listens, whoever started it."""
        return int(self.files.port.read_text())

    def _words(self) -> list[str]:
        place = self.place
        words = [sys.executable, "-P", "-m", "mycelium.engine.ray.lean", "start", "--block"]
        words += ["--head", f"--port={place.port}"] if not place.head else [f"--address={place.head}"]
        words += [
            f"--node-ip-address={place.address}",
            f"--labels=myc-machine={place.machine},myc-life={time.time_ns()}",
            f"--num-cpus={place.cpus}",
            f"--num-gpus={place.gpus}",
            f"--object-store-memory={max(place.store_bytes or _store_bytes(), STORE_BYTES_MIN)}",
            "--include-log-monitor=false",
            "--disable-usage-stats",
            f"--temp-dir={self._temporary() / 'r'}",
            *(f"--{name}=0" for name in _PORTS),
        ]
        return words if place.head else [*words, "--include-dashboard=false", "--no-monitor"]

    def _temporary(self) -> Path:
        """A short directory, because Ray puts sockets there, whose paths may have 107 bytes."""
        name = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:10]
        directory = Path(tempfile.gettempdir()) / f"myc-ray-{name}"
        directory.mkdir(mode=0o700, exist_ok=True)
        about = directory.lstat()
        if directory.is_symlink() or about.st_uid != os.geteuid() or about.st_mode & 0o077:
            raise Denied(f"{directory} is not ours alone", hint="remove it, and start again")
        return directory

    def kill(self) -> None:
        """End every process of this Ray, and take its files away."""
        until = time.monotonic() + GONE_WAIT_S
        while (found := self.processes()) and time.monotonic() < until:
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.reap()
            time.sleep(0.02)
        if self._child is not None:
            self._child.wait()
            self._child = None
        self.files.pid.unlink(missing_ok=True)
        pool_offer.withdraw(self.directory.parent)
        shutil.rmtree(self._temporary(), ignore_errors=True)

    def processes(self) -> list[int]:
        """All of this Ray: what carries the mark, and what is of the supervisor's session, living or dead.

        Some of Ray's processes write their title over their environment, others make sessions of their own.
        """
        mark = os.fsencode(f"{MARK}={self.directory}") + b"\0"
        session = self._session()
        return [
            pid
            for pid in usage.pids()
            if pid != os.getpid() and usage.start_ticks(pid) and (_is_of(pid, session) or _carries(pid, mark))
        ]

    def _session(self) -> int:
        """The session that the last supervisor made; 0 when its number may mean another one by now."""
        found = process.read(str(self.files.pid))
        if found is None or found.boot != process.boot_id() or usage.start_ticks(found.pid) not in (0, found.ticks):
            return 0
        return found.pid

    def said(self) -> str:
        """The last words of Ray's log."""
        try:
            return self.files.log.read_text(errors="replace")[-2000:].strip()
        except OSError:
            return ""


_PORTS = (
    "node-manager-port",
    "object-manager-port",
    "metrics-export-port",
    "runtime-env-agent-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "min-worker-port",
    "max-worker-port",
)


def _store_bytes() -> int:
    return min(STORE_BYTES_MAX, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // STORE_SHARE)


def _is_of(pid: int, session: int) -> bool:
    fields = usage.stat_fields(pid)
    return bool(session and fields) and int(fields[3]) == session


def _carries(pid: int, mark: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return mark in file.read(ENVIRONMENT_BYTES_MAX)
    except OSError:
        return False
