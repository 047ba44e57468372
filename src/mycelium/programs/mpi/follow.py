"""The ranks beside 0: they listen, tell rank 0 where, and run what is asked of them until rank 0 has ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import IO

from mycelium.base.errors import Problem, Unavailable
from mycelium.pools.gang.door import Door
from mycelium.pools.gang.line import MPI_COMMANDS, MPI_GATHERING, Line, dial
from mycelium.programs.mpi.lead import GATHER_S
from mycelium.programs.mpi.place import RankPlace

RETRY_S = 0.1
READ_BYTES = 1 << 16


def follow(place: RankPlace) -> int:
    """The exit code of rank 0's command. Errors: `Unavailable` when rank 0 does not answer."""
    running: set[subprocess.Popen[bytes]] = set()
    family = socket.AF_INET6 if ":" in place.own else socket.AF_INET
    listener = socket.create_server((place.own, 0), family=family)
    port: int = listener.getsockname()[1]
    door = Door(listener, place.secret, MPI_COMMANDS, lambda asked: _run(asked, running))
    try:
        line = _dial(place)
        line.send((place.rank, port))
        return line.receive()
    except (OSError, EOFError):
        print("rank 0 is gone", file=sys.stderr)
        return 1
    finally:
        door.close()
        for child in list(running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


def _dial(place: RankPlace) -> Line:
    until = time.monotonic() + GATHER_S
    while True:
        try:
            return dial(place.addresses[0], place.port, place.secret, MPI_GATHERING)
        except (OSError, Problem) as error:
            if time.monotonic() > until:
                raise Unavailable(f"rank 0 does not answer at {place.addresses[0]}:{place.port}: {error}") from None
            time.sleep(RETRY_S)


def _run(line: Line, running: set[subprocess.Popen[bytes]]) -> None:
    """One command: what it writes goes back as it comes, then its exit code."""
    try:
        words: str = line.receive()
    except (OSError, EOFError):
        line.close()
        return
    child = subprocess.Popen(
        ["/bin/sh", "-c", words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    running.add(child)
    assert child.stdout is not None
    assert child.stderr is not None
    ways = [
        threading.Thread(target=_pass, args=(line, fd, pipe)) for fd, pipe in ((1, child.stdout), (2, child.stderr))
    ]
    for way in ways:
        way.start()
    code = child.wait()
    for way in ways:
        way.join()
    running.discard(child)
    with contextlib.suppress(OSError):
        line.send(code)
    line.close()


def _pass(line: Line, fd: int, pipe: IO[bytes]) -> None:
    with contextlib.suppress(OSError):
        while data := os.read(pipe.fileno(), READ_BYTES):
            line.send((fd, data))
