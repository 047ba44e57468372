"""`myc submit`: a job that is described in a file, with the keys that `myc run` has as options.

Every mistake of the file is told at once, with the line it stands on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mycelium.base.errors import Fault, Missing, Refused, Unavailable, refuse
from mycelium.cli.options import Json
from mycelium.client.lines import line_of

FILE_BYTES_MAX = 1 << 20  # a job file is written by hand; a larger one is some other file


def submit(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The job file, such as job.toml; - reads stdin.")],
    wait: Annotated[bool, typer.Option("--wait", help="Follow it as `myc run` does, and exit as it does.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen; submit nothing.")] = False,
    json: Json = False,
) -> int:
    """Submit the job that a TOML file describes, and print its name.

    The keys are the long options of `myc run`, and `command`. `workdir` is the directory to send along, from where the
    command is typed: the current one by default, "none" for no directory.
    """
    from mycelium.cli.jobs.run import carry_out

    document = read_file(file)
    workdir = document.pop("workdir", ".")
    return carry_out(document, workdir, detach=not wait, dry_run=dry_run, json=json)


def read_file(file: Path) -> dict[str, Any]:
    """The document of a job file. Errors: `Missing`, `Refused` with every mistake and its line."""
    text = _text(file)
    import tomllib

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Refused(f"{file} is not TOML: {str(error)[:1].lower()}{str(error)[1:]}") from None
    faults: list[Fault] = []
    workdir = document.get("workdir", ".")
    if not isinstance(workdir, str) or not workdir:
        faults.append(Fault("workdir", "must be a directory", hint='write a path, or "none"'))
    elif workdir != "none" and not Path(workdir).is_dir():
        faults.append(Fault("workdir", f"there is no directory {workdir[:200]!r}", hint='or write "none"'))
    from mycelium.jobs.request import read

    try:
        read({key: value for key, value in document.items() if key != "workdir"})
    except Refused as refused:
        faults += refused.faults or (Fault("", refused.message, refused.hint),)
    placed = [(line_of(text, fault.where), fault) for fault in faults]
    placed.sort(key=lambda pair: pair[0] or 0)
    refuse([Fault(_where(file, line, fault), fault.message, fault.hint) for line, fault in placed])
    return document


def _where(file: Path, line: int | None, fault: Fault) -> str:
    return f"{file}:{line}: {fault.where}" if line else f"{file}: {fault.where}".removesuffix(": ")


def _text(file: Path) -> str:
    import sys

    try:
        if str(file) == "-":
            data = sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
        else:
            with file.open("rb") as opened:
                data = opened.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise Missing(f"there is no file {str(file)!r}", hint="docs/guides/job-files.md shows one") from None
    except IsADirectoryError:
        raise Refused(f"{file} is a directory", hint="name a job file, such as job.toml") from None
    except OSError as error:
        raise Unavailable(f"{file} cannot be read: {error.strerror}".lower()) from None
    if len(data) > FILE_BYTES_MAX:
        raise Refused(f"{file} is larger than {FILE_BYTES_MAX} bytes: that is not a job file")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Refused(f"{file} is not UTF-8 (byte {error.start})", hint="TOML files are UTF-8") from None
