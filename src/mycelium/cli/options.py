"""Options and arguments that several commands share."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from mycelium.base.ids import TaskId, parse_task, task_id
from mycelium.client import show


def complete_job(incomplete: str) -> list[str]:
    """The newest jobs, for the shell's completion. Nothing when the site is away: completion never complains."""
    from mycelium.client.site import connect

    try:
        found = connect().get("/jobs", all=True, limit=50)["jobs"]
    except Exception:  # the top of a completion
        return []
    return [job["id"] for job in found if job["id"].startswith(incomplete)]


def complete_node(incomplete: str) -> list[str]:
    from mycelium.client.site import connect

    try:
        found = connect().get("/nodes")["nodes"]
    except Exception:  # the top of a completion
        return []
    return [node["id"] for node in found if node["id"].startswith(incomplete)]


def task_name(text: str) -> TaskId:
    """`job-7` of 7, `job-7.42` of 7.42; a batch is a job too. Errors: `Refused` for what cannot be such a name."""
    if re.fullmatch(r"batch_[0-9a-zA-Z]{1,64}", text):
        return TaskId(text)
    return task_id(*parse_task(text))


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.", callback=show.ask_json, is_eager=True)]
Task = Annotated[
    str,
    typer.Argument(
        metavar="JOB", help="Such as job-7, or job-7.42 for a task.", parser=task_name, autocompletion=complete_job
    ),
]
Node = Annotated[str, typer.Argument(metavar="NODE", help="Such as node-2.", autocompletion=complete_node)]
