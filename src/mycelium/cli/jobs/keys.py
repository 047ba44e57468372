"""The options that `myc run` has because the table of a job's keys says so (mycelium/jobs/keys.py)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from mycelium.cli.flags import with_flags
from mycelium.jobs.keys import KEYS, JobKey, Option


def takes_keys(function: Callable[..., Any]) -> Callable[..., Any]:
    """The command has the keys of a job as options; what was said comes as its parameter `said`."""
    flags = [_option(name, key) for name, key in KEYS.items() if key.option is not None]

    def told(**given: Any) -> Any:
        said = {flag.name: given.pop(flag.name) for flag in flags}
        return function(**given, said={name: value for name, value in said.items() if value})

    return with_flags(told, function, flags)


def _option(name: str, key: JobKey) -> inspect.Parameter:
    taken = key.option or Option()
    switch = not taken.metavar
    option = typer.Option(f"--{name}", metavar=taken.metavar or None, help=key.help())
    annotation = Annotated[bool if switch else list[str] | None if taken.many else str, option]
    default = False if switch else None if taken.many else ""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
