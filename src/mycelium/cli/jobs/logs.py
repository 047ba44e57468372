"""`myc logs` and `myc attach`: what a job printed, and prints."""

from __future__ import annotations

import base64
from typing import Annotated

import typer

from mycelium.cli.options import Json, Task
from mycelium.client import show
from mycelium.client.follow import LogReader, missing, stream, to_the_end
from mycelium.client.site import Client, connect


def logs(
    job: Task,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the job has ended.")] = False,
    stderr: Annotated[bool, typer.Option("--stderr", help="Only stderr, and on stdout.")] = False,
    attempt: Annotated[int | None, typer.Option(metavar="N", min=1, help="Of this attempt. [the current one]")] = None,
    rank: Annotated[int | None, typer.Option(metavar="N", min=0, help="Of this node of a gang. [all]")] = None,
    json: Json = False,
) -> None:
    """Show what a job, or a task of an array, printed: its stdout on stdout and its stderr on stderr."""
    client = connect()
    only = "stderr" if stderr else ""
    if json:
        show.document(_whole(client, job, attempt, rank))
    elif follow:
        try:
            stream(client, job, only=only)
        except KeyboardInterrupt:
            show.note(f"\n{job} goes on")
    else:
        LogReader(client, job, follow=False, only=only, attempt=attempt, rank=rank).to_the_end()


def _whole(client: Client, job: str, attempt: int | None, rank: int | None) -> dict[str, object]:
    kept = {"stdout": bytearray(), "stderr": bytearray()}
    upto: dict[tuple[object, ...], int] = {}
    for event in client.stream(f"/jobs/{job}/logs", follow=0, attempt=attempt, rank=rank):
        if event.kind in kept:
            data, piece = base64.b64decode(event.data["data"]), event.data
            step = (piece["task"], piece["attempt"], piece["rank"], event.kind)
            if piece["offset"] > upto.get(step, 0):
                show.line(missing(piece["task"], event.kind, piece["offset"] - upto.get(step, 0)))
            upto[step] = piece["offset"] + len(data)
            kept[event.kind] += data
    return {"job": job, **{name: data.decode("utf-8", "replace") for name, data in kept.items()}}


def attach(job: Task, json: Json = False) -> int:
    """Follow a job as `myc run` does, and exit with its exit code."""
    client = connect()
    found = client.get(f"/jobs/{job}", tasks=0)
    code, final = to_the_end(client, found, all_to_stderr=json)
    if json:
        show.document(final or client.get(f"/jobs/{found['id']}", tasks=0))
    return code
