"""Rank 0: waits for the other ranks, tells launchers of MPI how to reach them, runs the command."""

from __future__ import annotations

import json
import os
import queue
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from mycelium.base.errors import Unavailable
from mycelium.base.limits import HANDSHAKE_S
from mycelium.pools.gang.door import Door
from mycelium.pools.gang.line import MPI_GATHERING, Line
from mycelium.programs.mpi.place import PEERS, RankPlace

GATHER_S = 300.0  # the slowest rank may still be unpacking its directory

# Open MPI and MPICH take their options from the environment too, so that a plain `mpirun ./program` is enough.
LAUNCHERS = {
    "OMPI_MCA_plm_rsh_agent": "python3 -m mycelium.programs.mpi.reach",  # a name that holds on every rank
    "OMPI_MCA_plm_rsh_no_tree_spawn": "1",  # the other ranks cannot reach each other
    "OMPI_MCA_orte_default_hostfile": "{slots}",
    "OMPI_MCA_orte_leave_session_attached": "1",  # what is asked of a rank ends with it
    "OMPI_MCA_pml": "^ucx",  # it wants to see /sys, and sandboxes show none
    "OMPI_MCA_osc": "^ucx",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",  # an unsandboxed step of a machine that root has joined
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "HYDRA_LAUNCHER": "rsh",
    "HYDRA_LAUNCHER_EXEC": "{reach}",
    "HYDRA_HOST_FILE": "{hosts}",
}


def lead(place: RankPlace, command: Sequence[str]) -> int:
    """The command's exit code. Errors: `Unavailable` when a rank does not come."""
    with tempfile.TemporaryDirectory(prefix="gang-") as name:
        directory = Path(name)
        own = place.addresses[0]
        listener = socket.create_server((own, place.port), family=_family(own))
        came: queue.SimpleQueue[Line] = queue.SimpleQueue()
        door = Door(listener, place.secret, MPI_GATHERING, came.put)
        try:
            lines, ports = _gather(place, came)
        finally:
            door.close()
        code = 1
        try:
            code = subprocess.run(
                command, env=environment(place, ports, directory) | os.environ, check=False
            ).returncode
        except OSError as error:
            print(f"{command[0]}: {error.strerror}", file=sys.stderr)
            code = 127
        finally:
            for line in lines:
                line.send(code)
                line.close()
    return code


def environment(place: RankPlace, ports: dict[str, int], directory: Path) -> dict[str, str]:
    """The variables of the command, and the files that they name."""
    reach, slots, hosts, peers = (directory / name for name in ("reach", "slots", "hosts", "peers"))
    reach.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m mycelium.programs.mpi.reach "$@"\n')
    reach.chmod(0o700)
    slots.write_text("".join(f"{address} slots={place.cpus}\n" for address in place.addresses))
    hosts.write_text("".join(f"{address}:{place.cpus}\n" for address in place.addresses))
    peers.write_text(json.dumps(ports))
    files = {"reach": str(reach), "slots": str(slots), "hosts": str(hosts)}
    return {name: value.format(**files) for name, value in LAUNCHERS.items()} | {PEERS: str(peers)}


def _gather(place: RankPlace, came: queue.SimpleQueue[Line]) -> tuple[list[Line], dict[str, int]]:
    """A line to each other rank, and where each listens."""
    lines: dict[int, Line] = {}
    ports: dict[str, int] = {}
    until = time.monotonic() + GATHER_S
    while len(lines) < len(place.addresses) - 1:
        try:
            line = came.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise Unavailable(f"{len(lines) + 1} of {len(place.addresses)} ranks came in {GATHER_S:.0f}s") from None
        try:
            line.sock.settimeout(HANDSHAKE_S)
            rank, port = line.receive()
            line.sock.settimeout(None)
        except (OSError, EOFError):
            line.close()
            continue  # a rank that will dial again
        if (before := lines.pop(rank, None)) is not None:
            before.close()
        lines[rank] = line
        ports[place.addresses[rank]] = port
    return list(lines.values()), ports


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
