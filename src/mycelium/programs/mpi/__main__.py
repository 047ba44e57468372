"""What nodes run for `myc:mpi COMMAND…`, on every rank of a gang."""

from __future__ import annotations

import sys

from mycelium.base.errors import Problem
from mycelium.programs.mpi import place
from mycelium.programs.mpi.follow import follow
from mycelium.programs.mpi.lead import lead


def main(command: list[str]) -> int:
    try:
        mine = place.read()
        if not command:
            print("no command", file=sys.stderr)
            return 2
        return lead(mine, command) if mine.rank == 0 else follow(mine)
    except Problem as problem:
        print(f"{problem.message}{f' ({problem.hint})' if problem.hint else ''}", file=sys.stderr)
        return problem.exit


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
