"""`myc run`: the current directory goes along, the command runs, its output comes back, its exit code is ours."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Annotated, Any

import typer

from mycelium.base.errors import Fault, Refused, refuse
from mycelium.cli.jobs.keys import takes_keys
from mycelium.cli.options import Json
from mycelium.client import show
from mycelium.client.site import Client, connect

Document = dict[str, Any]


@takes_keys
def run(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="What to run; put -- before it.")],
    said: Document,
    detach: Annotated[bool, typer.Option("--detach", help="Submit it, print its name, and do not wait.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen; submit nothing.")] = False,
    json: Json = False,
) -> int:
    """Run a command on the site and show what it prints, as if it ran here.

    The current directory is sent along, without what .gitignore names and without .git. Exits with the command's exit
    code; an array shows its progress and exits with 0 only if every task did. Ctrl-C once detaches, twice cancels.
    """
    workdir = said.pop("workdir", ".")
    document = {"command": command, **said}
    if "env" in said:
        document["env"] = read_env(said["env"])
    check(document)
    return carry_out(document, workdir, detach=detach, dry_run=dry_run, json=json)


def check(document: Document) -> None:
    """Find every mistake before anything is sent. Errors: one `Refused`, which names the options."""
    from mycelium.jobs.request import read

    try:
        read(document)
    except Refused as refused:
        named = [Fault(f"--{fault.where.replace('.', ' ', 1)}", fault.message, fault.hint) for fault in refused.faults]
        refuse([Fault(fault.where.replace("--command", "COMMAND"), fault.message, fault.hint) for fault in named])
        raise


def read_env(pairs: list[str]) -> dict[str, str]:
    """`K=V`, or `K` for what the variable is here."""
    env: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals and name not in os.environ:
            raise Refused(f"--env: {name[:64]!r} is not set here", hint=f"write --env {name[:64]}=VALUE")
        env[name] = value if equals else os.environ[name]
    return env


def carry_out(document: Document, workdir: str, *, detach: bool, dry_run: bool, json: bool) -> int:
    """Send the directory, submit the job, and follow it unless told otherwise."""
    client = connect()
    if dry_run:
        found = client.post("/jobs/dry-run", document)
        if json:
            show.document(found)
        else:
            for line in found["says"]:
                show.say(show.clean(line))
        return 0
    files = 0
    if workdir != "none":
        from mycelium.client.upload import upload

        document["workdir"], files = upload(client, Path(workdir))
    job = submit(client, document)
    if detach:
        if json:
            show.document(job)
        else:
            show.say(job["id"])
            show.note(f"`myc attach {job['id']}` follows it, `myc why {job['id']}` says why it waits")
        return 0
    from mycelium.client.follow import to_the_end

    code, final = to_the_end(client, job, all_to_stderr=json, files=files)
    if json:
        show.document(final or client.get(f"/jobs/{job['id']}"))
    return code


def submit(client: Client, document: Document) -> Document:
    """One job, submitted once however often the request has to be repeated."""
    return client.post("/jobs", {"jobs": [document]}, key=secrets.token_hex(16))["jobs"][0]
