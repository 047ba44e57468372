"""Names that a command may begin with, and what the node runs for them.

The log keeps commands for ever, so it holds a name where the site itself is run: modules may move below it. A name says
nothing that its user could not write out as `python3 -m …`.
"""

from __future__ import annotations

import sys

from mycelium.jobs.program import NAME as PROGRAM

MODULES = {
    PROGRAM: "mycelium.programs",
    "myc:mpi": "mycelium.programs.mpi",
}


def resolve(command: tuple[str, ...]) -> tuple[str, ...]:
    """The command as the system is given it: with the node's own Python, wherever the step's PATH leads."""
    module = MODULES.get(command[0])
    return command if module is None else (sys.executable, "-P", "-m", module, *command[1:])
