"""Reads a job as people write it (a job file, a body of the API, the options of `myc run`) into a `Request`.

What the keys are, and how each is read, is in keys.py. Every mistake of a document is found before any is reported.
Never: looks at the site: whether a node could serve the request is for rules.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from mycelium.base.errors import Fault, Problem, Refused, refuse
from mycelium.jobs import program
from mycelium.jobs.keys import KEYS
from mycelium.jobs.kinds import UNPRINTABLE, plain
from mycelium.jobs.model import Request
from mycelium.nodes.model import Devices

_INTERPRETER = re.compile(r"(.*/)?(sh|bash|dash|zsh|env|uv|node|perl|ruby|python[0-9.]*)")
_SCRIPT = re.compile(r"[\w./+@~-]{1,255}")


def read(document: Any) -> Request:
    """The request that a document describes. Errors: one `Refused` that names every mistake."""
    if not isinstance(document, Mapping):
        raise Refused("a job is a table of keys and values", hint="the least is: command = [...]")
    written = cast("Mapping[str, Any]", document)
    faults = [Fault(plain(key), "unknown key", hint=_near(str(key))) for key in written if key not in KEYS]
    values: dict[str, Any] = {}
    for key, rule in KEYS.items():
        try:
            values[key] = rule.kind.read(written[key]) if written.get(key) is not None else rule.default
        except Problem as problem:
            within = [Fault(f"{key}.{fault.where}", fault.message, fault.hint) for fault in problem.faults]
            faults += within or [Fault(key, problem.message, problem.hint)]
    refuse(faults + _missing(written))
    if values["program"] is not None:
        program.complete(values)
    return _request(values)


def _request(values: dict[str, Any]) -> Request:
    needs = Devices(values.pop("cpus"), values.pop("memory"), values.pop("gpus"))
    values["after"] = tuple(dict.fromkeys((*values["after"], *values["inputs"])))
    values["name"] = values["name"] or _name_of(values["command"])
    return Request(needs=needs, time_ms=values.pop("time"), **values)


def _missing(written: Mapping[str, Any]) -> list[Fault]:
    """What to run is said by `command`, or by `program` and `input`."""
    if written.get("program") is None:
        faults = [Fault("input", "goes with program")] if written.get("input") is not None else []
        if "command" not in written:
            hint = "say what to run, for example command = ['python3', 'a.py']"
            faults.append(Fault("command", "is missing", hint=hint))
        return faults
    faults = [Fault(key, "does not go with program") for key in program.DECIDED if written.get(key)]
    if written.get("input") is None:
        faults.append(Fault("input", "is missing", hint="send the program's inputs to /objects, {} if it has none"))
    return faults


def _name_of(command: tuple[str, ...]) -> str:
    """A job without a name is called after its program, or after the script that an interpreter is given.

    Never after a text that follows -c: names are for everybody to see, and such a text may hold anything.
    """
    program, *rest = command
    chosen = program
    if _INTERPRETER.fullmatch(program):
        first = next((word for word in rest if not word.startswith("-")), "")
        told = any(word in ("-c", "-e") or (word.startswith("-") and word.endswith("c")) for word in rest[:3])
        chosen = program if told or not _SCRIPT.fullmatch(first) else first
    return UNPRINTABLE.sub("", chosen.strip().rsplit("/", 1)[-1])[:40].strip() or "job"


def _near(key: str) -> str:
    import difflib

    close = difflib.get_close_matches(key, KEYS, n=1)
    return f"did you mean {close[0]!r}?" if close else f"the keys are: {', '.join(KEYS)}"
