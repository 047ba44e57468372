"""Jobs that run a Polymer program: what the step runs, and the files that it begins with and leaves.

Of a gang, rank 0 drives the program and the other ranks work for it: their end is not the job's.
Never: reads a container; the door does that before a job is submitted.
"""

from __future__ import annotations

from typing import Any

PROGRAM_FILE = "program.pmr"
INPUT_FILE = "input.pmv"
RESULT_FILE = "result.pmv"
KEPT = "kept"  # the directory of kept results, in pages: KERNEL.pmk, or KERNEL-N.pmk where there are several
PAGE = ".pmk"
NAME = "myc:program"  # nodes know what to run for it; logs of 0.1 hold `python3 -P -m mycelium.engine.program`
DECIDED = ("command", "array", "outputs", "workdir")  # keys of a job that a program leaves nothing to say about


def complete(values: dict[str, Any]) -> None:
    """Fill in the keys of a request that follow from its being a program."""
    values["command"] = (NAME,)
    values["outputs"] = (RESULT_FILE, f"{KEPT}/*{PAGE}")
    values["name"] = values["name"] or "program"
    if values["nodes"] > 1:
        values["net"] = True  # the ranks speak with each other
        values["elastic"] = True
