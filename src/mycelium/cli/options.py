"""Options and arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from mycelium.base.ids import JobId, TaskId, parse_job, parse_task, task_id
from mycelium.cli import show


def complete_job(incomplete: str) -> list[str]:
    """The newest jobs, for the shell's completion. Nothing when the site is away: completion never complains."""
    from mycelium.cli.client import connect

    try:
        found = connect().get("/jobs", all=True, limit=50)["jobs"]
    except Exception:  # the top of a completion
        return []
    return [job["id"] for job in found if job["id"].startswith(incomplete)]


def complete_node(incomplete: str) -> list[str]:
    from mycelium.cli.client import connect

    try:
        found = connect().get("/nodes")["nodes"]
    except Exception:  # the top of a completion
        return []
    return [node["id"] for node in found if node["id"].startswith(incomplete)]


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.", callback=show.ask_json, is_eager=True)]
Job = Annotated[str, typer.Argument(metavar="JOB", help="Such as job-7, or just 7.", autocompletion=complete_job)]
Task = Annotated[
    str,
    typer.Argument(metavar="JOB", help="Such as job-7, or job-7.42 for a task.", autocompletion=complete_job),
]
Node = Annotated[str, typer.Argument(metavar="NODE", help="Such as node-2.", autocompletion=complete_node)]


def job_name(text: str) -> JobId:
    """Errors: `Refused` for what cannot be the name of a job."""
    return parse_job(text)


def task_name(text: str) -> TaskId:
    """Errors: `Refused` for what cannot be the name of a job or a task."""
    return task_id(*parse_task(text))
