"""`reach HOST COMMAND…`: run a command on another rank of this gang, as ssh would, from a process of rank 0's command.

Options that launchers give to ssh come before the host and mean nothing here.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from mycelium.base.errors import Denied, Problem
from mycelium.pools.gang.line import MPI_COMMANDS, dial
from mycelium.programs.mpi import place


def main(words: list[str]) -> int:
    while words and words[0].startswith("-"):
        words = words[2:] if words[0] == "-l" else words[1:]
    if len(words) < 2:
        print("reach: HOST COMMAND…", file=sys.stderr)
        return 2
    host, command = words[0], " ".join(words[1:])
    launcher = os.getppid()
    try:
        mine = place.read()
        if host == mine.addresses[0]:
            os.execv("/bin/sh", ["/bin/sh", "-c", command])
        return _run(mine, host, command)
    except (Problem, OSError, EOFError, KeyError) as error:
        if (
            os.getppid() == launcher
        ):  # one that has ended does not wait for what it began here, and its gang has ended too
            print(f"reach: {host}: {error}", file=sys.stderr)
        return 255


def _run(mine: place.RankPlace, host: str, command: str) -> int:
    ports = json.loads(Path(os.environ[place.PEERS]).read_text())
    if host not in ports:
        raise Denied(f"{host} is not a rank of this gang: {', '.join(mine.addresses)}")
    line = dial(host, ports[host], mine.secret, MPI_COMMANDS)
    line.send(command)
    while not isinstance(said := line.receive(), int):
        fd, data = said
        os.write(fd, data)
    return said if said >= 0 else 128 - said


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
