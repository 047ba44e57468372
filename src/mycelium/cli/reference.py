"""Writes docs/reference.md from the tables that the code itself uses: commands, job keys, settings, exit codes.

`python -m mycelium.cli.reference > docs/reference.md`. A test holds the page against what this prints.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from mycelium.base.errors import KINDS
from mycelium.cli.coerce import HELP
from mycelium.cli.commands import ALIASES, COMMANDS, HEADINGS, Command
from mycelium.cli.lazy import load
from mycelium.cli.main import build
from mycelium.client import settings
from mycelium.client.table import SETTINGS, TRUTHS, Setting
from mycelium.head.domains import mounted
from mycelium.jobs.keys import KEYS
from mycelium.serve.http.asks import guards

TITLE = """\
# Reference

Made from the code by `python -m mycelium.cli.reference > docs/reference.md`, and held against it by a test.
The HTTP API documents itself: a site serves it at `/docs`, and as OpenAPI at `/openapi.json`.
"""

GUARDS_SAID = """\
Roles: a user may use the site; an operator keeps it running (nodes, and everybody's jobs); an admin may do everything
(`myc account add --operator`, `--admin`). The head asks these guards, whichever door a question came through."""
TRUTHS_SAID = f"What is true or false is said as one of: {', '.join(TRUTHS)}."

VARIABLES = {
    "MYC_JOB_ID": "the job, such as `job-7`",
    "MYC_TASK_ID": "the task, such as `job-7.42`; the job, where it is no array",
    "MYC_JOB_NAME": "what listings call the job",
    "MYC_ATTEMPT": "which try this is, from 1",
    "MYC_CPUS": "cpus that this step may use, such as `0.5`",
    "MYC_MEMORY_BYTES": "memory that this step may use",
    "MYC_GPUS": "gpus that are this step's alone",
    "MYC_ARRAY_INDEX": "in an array: this task's index",
    "MYC_ARRAY_FIRST": "in an array: the first index",
    "MYC_ARRAY_LAST": "in an array: the last index",
    "MYC_ARRAY_COUNT": "in an array: how many tasks there are",
    "MYC_NODE_RANK": "which of the job's nodes this is, from 0",
    "MYC_NODE_COUNT": "how many nodes the job has",
    "MYC_NODE_NAME": "the name of this node",
    "MYC_GANG_PORT": "in a gang: a port of rank 0's node, free when the step begins; also as `MASTER_PORT`",
    "MYC_GANG_SECRET": "in a gang: what only its ranks know, to know each other by",
    "MYC_NODE_ADDRESSES": "the addresses of all nodes of the job, in the order of their ranks, with commas between",
}


def page() -> str:
    return "\n".join(
        part.rstrip() + "\n" for part in (TITLE, _commands(), _keys(), _variables(), _settings(), _guards(), _codes())
    )


def _commands() -> str:
    lines = ["## Commands", "", "Options of `myc` itself, before any command:", "", *_options(build()), "", _aliases()]
    for heading in HEADINGS:
        lines += ["", f"### {heading}"]
        for name, command in COMMANDS.items():
            if command.heading == heading:
                lines += _command(name, command)
    return "\n".join(lines)


def _aliases() -> str:
    still = "; ".join(f"`myc {old}` is `myc {new}`" for old, new in ALIASES.items())
    return f"Words that still work: {still}."


def _command(name: str, command: Command) -> Iterator[str]:
    found = load(command)
    arguments = [param for param in found.params if param.param_type_name == "argument"]
    words = " ".join(_argument(param, runs=command.runs) for param in arguments)
    yield from (
        "",
        f"#### `myc {name}{' [options]' if len(found.params) > len(arguments) else ''}{words and ' ' + words}`",
    )
    yield from ("", _paragraphs(found.help))
    below = getattr(found, "commands", {})
    for word, one in below.items():
        yield from ("", f"`myc {name} {word}`: {_paragraphs(one.help)}")
    rows = [*_rows(arguments), *_rows(param for param in found.params if param.param_type_name == "option")]
    if rows:
        yield from ("", "| | |", "|---|---|", *rows)


def _argument(param: Any, *, runs: bool) -> str:
    name = param.metavar or param.name.upper()
    return f"-- {name}" if runs else name if param.required else f"[{name}]"


def _options(command: Any) -> Iterator[str]:
    yield from ("| | |", "|---|---|", *_rows(param for param in command.params if param.param_type_name == "option"))


def _rows(params: Any) -> Iterator[str]:
    for param in params:
        if param.name in HELP or not param.help:
            continue
        if param.param_type_name == "argument":
            yield f"| `{param.metavar}` | {_cell(param.help)} |"
        else:
            value = f" {param.metavar}" if param.metavar and not param.is_flag else ""
            yield f"| `{', '.join(param.opts)}{value}` | {_cell(param.help)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _paragraphs(text: str | None) -> str:
    """Docstrings are broken for the eye in the code; the page lets every reader break them anew."""
    return "\n\n".join(re.sub(r"\s*\n\s*", " ", part) for part in inspect.cleandoc(text or "").split("\n\n"))


def _keys() -> str:
    rows = [f"| `{name}` | {_cell(key.says)} | {key.unsaid} |" for name, key in KEYS.items()]
    intro = "In a job file, in the body of `POST /jobs`, and (but for `command`) as options of `myc run`."
    return "\n".join(["## Keys of a job", "", intro, "", "| key | | by default |", "|---|---|---|", *rows])


def _variables() -> str:
    rows = [f"| `{name}` | {says} |" for name, says in VARIABLES.items()]
    return "\n".join(["## What a step is told", "", "| variable | |", "|---|---|", *rows])


def _settings() -> str:
    intro, who, *_ = inspect.cleandoc(settings.__doc__ or "").split("\n\n")
    head = ["| | in config.toml | in the environment | as a flag |", "|---|---|---|---|"]
    rows = [_setting(setting) for setting in SETTINGS.values()]
    return "\n".join(["## Settings", "", intro, "", *head, *rows, "", TRUTHS_SAID, "", who])


def _setting(setting: Setting) -> str:
    flags = ", ".join(f"`{f'myc {command}'.strip()} {setting.flags}`" for command in setting.flag_of)
    key = f"`{setting.name}`" if setting.file else ""
    return f"| {_cell(setting.help('up'))} | {key} | `{setting.variable}` | {flags} |"


def _guards() -> str:
    """Who may what, as the guards have it that the head itself asks."""
    lines = ["## Who may what", "", GUARDS_SAID, "", "| door | asks | who may |", "|---|---|---|"]
    lines += [f"| `{door.replace(':path', '')}` | {asked} | {guard.says} |" for door, asked, guard in guards(mounted())]
    return "\n".join(lines)


def _codes() -> str:
    meanings = [(kind.exit, kind.kind, kind.http, kind.__doc__) for kind in KINDS.values()]
    rows = [f"| {code} | `{kind}` | {http} | {_paragraphs(says)} |" for code, kind, http, says in meanings]
    rows += [
        "| 70 | | | a fault in `myc` itself: please report it |",
        "| 130 | | | Ctrl-C: detached, and what ran goes on |",
    ]
    intro = "`myc run`, `attach` and `submit --wait` exit with the job's own exit code; everything else with these:"
    table = ["| exit | kind | HTTP | meaning |", "|--:|---|--:|---|", "| 0 | | 200 | done |", *rows]
    return "\n".join(["## Exit codes", "", intro, "", *table])


if __name__ == "__main__":
    print(page(), end="")
