"""The keys of a job: one table, which the options of `myc run`, job files, HTTP bodies, views and the reference ask.

A new key is a line here and a field of `Request` of the same name.
Never: decides whether a job is allowed: rules.py does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from mycelium.base.limits import GANG_NODES_MAX, RETRIES_MAX, TIME_MS_DEFAULT
from mycelium.base.units import MIB, format_cpus
from mycelium.jobs import kinds
from mycelium.jobs.model import Array, Priority, Request, Sandbox


class Option(Struct, frozen=True):
    """How `myc run` takes a key. Without a metavar it is a switch; `many`: it can be said again and again.

    `says`: its help, where it takes something else than the key does elsewhere.
    """

    metavar: str = ""
    many: bool = False
    says: str = ""


class JobKey(Struct, frozen=True):
    """One key: its kind, its value in a request when nobody says it, and what it means in a sentence.

    `unsaid` is the default in words. `shown`: how a request shows it, where its field of this name does not say it.
    """

    kind: kinds.KeyKind
    default: Any
    says: str
    option: Option | None = None
    unsaid: str = ""
    shown: Callable[[Request], Any] | None = None

    def help(self) -> str:
        """Its line in the help of `myc run`."""
        says = self.option.says if self.option and self.option.says else f"{self.says[0].upper()}{self.says[1:]}."
        return f"{says} [{self.unsaid}]" if self.unsaid else says


def _array(request: Request) -> str | None:
    array: Array | None = request.array
    if array is None:
        return None
    step = f":{array.step}" if array.step != 1 else ""
    return f"{array.start}-{array.stop}{step}" + (f"%{array.throttle}" if array.throttle else "")


KEYS: dict[str, JobKey] = {
    "command": JobKey(kinds.COMMAND, ("true",), "what to run: a list of words, or a text for sh -c"),
    "name": JobKey(kinds.NAME, "", "what listings call the job", Option("TEXT"), "the program's name"),
    "cpus": JobKey(
        kinds.CPUS,
        1000,
        "cpus on each node; 0.5 is half a cpu",
        Option("N"),
        "1",
        lambda request: format_cpus(request.needs.cpu_m),
    ),
    "memory": JobKey(
        kinds.MEMORY,
        512 * MIB,
        "memory on each node, such as 512M or 4G",
        Option("SIZE"),
        "512M",
        lambda request: request.needs.memory_bytes,
    ),
    "gpus": JobKey(kinds.whole(0, 1024), 0, "gpus on each node", Option("N"), "0", lambda request: request.needs.gpus),
    "nodes": JobKey(kinds.whole(1, GANG_NODES_MAX), 1, "nodes that start together or not at all", Option("N"), "1"),
    "time": JobKey(
        kinds.TIME,
        TIME_MS_DEFAULT,
        "the longest one attempt may run, such as 90s, 15m or 1h30m",
        Option("TIME"),
        "1h",
        lambda request: request.time_ms / 1000,
    ),
    "array": JobKey(
        kinds.ARRAY,
        None,
        "run once for each index: 0-99, 0-99:2 (step), 0-99%10 (ten at once)",
        Option("RANGE"),
        shown=_array,
    ),
    "after": JobKey(kinds.JOBS, (), "start when these jobs are done", Option("JOB,…", many=True)),
    "inputs": JobKey(
        kinds.JOBS,
        (),
        "start when these jobs are done, with their outputs under inputs/JOB[/INDEX]",
        Option("JOB,…", many=True),
    ),
    "priority": JobKey(
        kinds.PRIORITY,
        Priority.NORMAL,
        "how soon it runs: low, normal or high",
        Option("P"),
        "normal",
        lambda request: request.priority.name.lower(),
    ),
    "on": JobKey(
        kinds.TERMS,
        (),
        "labels the nodes must have, such as arch=arm64,gpu,!virtual",
        Option("LABELS", many=True),
        shown=lambda request: ",".join(request.on),
    ),
    "retries": JobKey(kinds.whole(0, RETRIES_MAX), 0, "how often a task that failed is run again", Option("K"), "0"),
    "env": JobKey(
        kinds.ENV,
        {},
        "environment variables",
        Option("K=V", many=True, says="An environment variable; K alone passes yours on."),
    ),
    "net": JobKey(kinds.YES, False, "let it use the network", Option()),
    "outputs": JobKey(kinds.GLOBS, (), "files to keep, such as results/*.json", Option("GLOB", many=True)),
    "sandbox": JobKey(
        kinds.SANDBOX,
        Sandbox.PROCESS,
        "the walls around it: process, or none (admins only)",
        Option("LEVEL"),
        "process",
        lambda request: request.sandbox.value,
    ),
    "workdir": JobKey(
        kinds.DIGEST,
        None,
        "the uploaded directory it begins with",
        Option("DIR", says="The directory to send along; none: no directory. [.]"),
    ),
    "program": JobKey(kinds.DIGEST, None, "an uploaded Polymer container, to run instead of a command"),
    "input": JobKey(kinds.DIGEST, None, "the uploaded values of the program's inputs"),
}


def shown(request: Request) -> dict[str, Any]:
    """A request in the words of a job file, but for what every view of a job says by itself."""
    return {
        name: key.shown(request) if key.shown else getattr(request, name)
        for name, key in KEYS.items()
        if name not in ("command", "name")
    }
