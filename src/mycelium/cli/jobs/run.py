"""`myc run`: the current directory goes along, the command runs, its output comes back, its exit code is ours."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Annotated, Any

import typer

from mycelium.base.errors import Fault, Refused, refuse
from mycelium.cli.options import Json
from mycelium.client import show
from mycelium.client.site import Client, connect

Document = dict[str, Any]


def run(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="What to run; put -- before it.")],
    cpus: Annotated[str, typer.Option(metavar="N", help="Cpus on each node; 0.5 is half a cpu. [1]")] = "",
    memory: Annotated[str, typer.Option(metavar="SIZE", help="Memory on each node, such as 4G. [512M]")] = "",
    gpus: Annotated[str, typer.Option(metavar="N", help="Gpus on each node. [0]")] = "",
    nodes: Annotated[str, typer.Option(metavar="N", help="Nodes that start together or not at all. [1]")] = "",
    time: Annotated[str, typer.Option(metavar="TIME", help="The longest it may run, such as 90s or 1h30m. [1h]")] = "",
    array: Annotated[
        str, typer.Option(metavar="RANGE", help="Run once for each index: 0-99, 0-99:2 (step), 0-99%10 (ten at once).")
    ] = "",
    after: Annotated[list[str] | None, typer.Option(metavar="JOB,…", help="Start when these jobs are done.")] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(metavar="JOB,…", help="As --after, with their outputs under inputs/JOB[/INDEX]."),
    ] = None,
    name: Annotated[str, typer.Option(metavar="TEXT", help="What listings call it. [the program's name]")] = "",
    priority: Annotated[str, typer.Option(metavar="P", help="low, normal or high. [normal]")] = "",
    on: Annotated[
        list[str] | None, typer.Option(metavar="LABELS", help="Labels the nodes must have, such as 'arch=arm64,gpu'.")
    ] = None,
    retries: Annotated[str, typer.Option(metavar="K", help="How often a task that failed is run again. [0]")] = "",
    env: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="An environment variable; K alone passes yours on.")
    ] = None,
    net: Annotated[bool, typer.Option("--net", help="Let it use the network.")] = False,
    outputs: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Files to keep, such as 'results/*.json'.")
    ] = None,
    sandbox: Annotated[str, typer.Option(metavar="LEVEL", help="process, or none (admins only). [process]")] = "",
    workdir: Annotated[str, typer.Option(metavar="DIR", help="The directory to send along; none: no directory.")] = ".",
    detach: Annotated[bool, typer.Option("--detach", help="Submit it, print its name, and do not wait.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen; submit nothing.")] = False,
    json: Json = False,
) -> int:
    """Run a command on the site and show what it prints, as if it ran here.

    The current directory is sent along, without what .gitignore names and without .git. Exits with the command's exit
    code; an array shows its progress and exits with 0 only if every task did. Ctrl-C once detaches, twice cancels.
    """
    options = {
        "cpus": cpus, "memory": memory, "gpus": gpus, "nodes": nodes, "time": time, "array": array, "after": after,
        "inputs": inputs, "name": name, "priority": priority, "on": on, "retries": retries, "net": net,
        "outputs": outputs, "sandbox": sandbox,
    }  # fmt: skip
    document = {"command": command, **{key: value for key, value in options.items() if value}}
    if env:
        document["env"] = read_env(env)
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
