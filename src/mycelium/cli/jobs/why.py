"""`myc why` and `myc story`: the site explains itself, in its own words."""

from __future__ import annotations

from mycelium.cli.options import Json, Task
from mycelium.client import show
from mycelium.client.site import connect


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


def story(job: Task, json: Json = False) -> None:
    """Everything that happened to a job, in order, in words."""
    found = connect().get(f"/jobs/{job}/story")
    if json:
        show.document(found)
        return
    begun = None
    for event in found["story"]:
        begun = begun or event["time"]
        after = f"+{show.between(begun, event['time'])}"
        moment = show.paint(f"{show.local(event['time'])} {after:>8}", "2")
        show.say(f"{moment}  {show.clean(event['says'])}")
