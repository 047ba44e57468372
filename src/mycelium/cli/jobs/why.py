"""`myc why` and `myc story`: the site explains itself, in its own words."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mycelium.base.errors import Refused
from mycelium.cli.options import Json, Task, task_name
from mycelium.client import show
from mycelium.client.site import connect

FILES_SHOWN = 3  # of those that hold a job's older events


def why(job: Task, json: Json = False) -> None:
    """Why a job waits: what binds it, who is ahead, when it is expected to start and what would start it sooner."""
    found = connect().get(f"/jobs/{job}/why")
    if json:
        show.document(found)
        return
    first, *rest = found["says"] or [f"{job} does not wait"]
    show.say(show.paint(show.clean(first), "1"))
    for line in rest:
        show.say(f"  {show.clean(line)}")


def story(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A job, or a node, an account, a deployment, a key.")],
    json: Json = False,
) -> None:
    """Everything that happened to a job, in order, in words; or to a node, an account, a deployment, a model, a key."""
    found = connect().get(_path_of(name))
    if json:
        show.document(found)
        return
    _say_pruned(found.get("pruned"))
    begun = None
    for event in found["story"]:
        begun = begun or event["time"]
        after = f"+{show.between(begun, event['time'])}"
        moment = show.paint(f"{show.local(event['time'])} {after:>8}", "2")
        show.say(f"{moment}  {show.clean(event['says'])}")


def _path_of(name: str) -> str:
    try:
        return f"/jobs/{task_name(name)}/story"
    except Refused:
        return f"/stories/{name}"


def _say_pruned(pruned: dict[str, Any] | None) -> None:
    """What left the log before this story was asked for is not passed over in silence."""
    if pruned is None:
        return
    files = pruned["files"]
    where = f"in {show.clean(files[0])}" if len(files) == 1 else "in these files:" if files else "in files elsewhere"
    show.note(f"events up to {show.local(pruned['upto'])} are no longer in the log; they are {where}")
    for file in files[:FILES_SHOWN] if len(files) > 1 else ():
        show.note(f"  {show.clean(file)}")
    if len(files) > FILES_SHOWN:
        show.note(f"  and {len(files) - FILES_SHOWN} more")
