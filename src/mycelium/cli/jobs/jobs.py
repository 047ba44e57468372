"""`myc jobs`, `myc job show`, `myc cancel`: what jobs there are, one of them, and the end of one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mycelium.base.documents import is_list, is_object
from mycelium.base.ids import number_of, parse_job
from mycelium.base.units import format_size, format_time_ms
from mycelium.cli.options import Json, Task
from mycelium.client import show
from mycelium.client.site import connect

TASKS_SOUGHT = 1000  # among which those that failed or run are shown first
ENDED = ("done", "failed", "cancelled")
TOLD_OTHERWISE = ("cpus", "memory", "gpus", "nodes", "time", "net", "workdir", "program", "input")
STATES = ("blocked", "queued", "placed", "running", "stopping", *ENDED)


def jobs(
    state: Annotated[str, typer.Option(metavar="S", help=f"Only jobs in this state: {', '.join(STATES)}.")] = "",
    all_: Annotated[bool, typer.Option("--all", help="Also the jobs that have ended long ago.")] = False,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="At most so many, newest first.")] = 50,
    before: Annotated[str, typer.Option(metavar="JOB", help="Only jobs older than this one.")] = "",
    json: Json = False,
) -> None:
    """List jobs, newest first: those that wait or run, and with --all those that have ended as well."""
    older = number_of(parse_job(before)) if before else None
    found = connect().get("/jobs", state=state or None, all=all_, limit=limit, before=older)
    if json:
        show.document(found)
        return
    listed = found["jobs"]
    if not listed:
        show.note("no job to show" + ("" if all_ or state else "; `myc jobs --all` shows those that have ended"))
        return
    head = ("JOB", "NAME", "ACCOUNT", "STATE", "TASKS", "NODES", "AGE", "TIME", "EXIT", "REASON")
    show.table(head, [_row(job) for job in listed], right=("TASKS", "AGE", "TIME", "EXIT"))
    if found.get("more"):
        show.note(f"there are more: `myc jobs{' --all' if all_ else ''} --before {listed[-1]['id']}`")


def _row(job: dict[str, Any]) -> tuple[str, ...]:
    return (
        job["id"],
        show.clean(job["name"])[:32],
        show.clean(job["account"]),
        show.state(job["state"]),
        progress(job),
        places(job["nodes"]),
        show.ago(job["submitted"]),
        show.between(job["started"], job["ended"]),
        "-" if job["exit_code"] is None else str(job["exit_code"]),
        show.clean(job.get("reason") or job.get("message") or ""),
    )


def progress(job: dict[str, Any]) -> str:
    """`3/10`: of an array, the tasks that have ended, of all."""
    tasks = job["counts"]
    if not job["request"]["array"]:
        return "-"
    return f"{tasks['done'] + tasks['failed'] + tasks['cancelled']}/{tasks['size']}"


def places(nodes: list[str]) -> str:
    if not nodes:
        return "-"
    return ",".join(nodes[:3]) + (f"+{len(nodes) - 3}" if len(nodes) > 3 else "")


def show_job(
    job: Task,
    tasks: Annotated[int, typer.Option(metavar="N", min=0, max=10_000, help="At most so many tasks.")] = 20,
    json: Json = False,
) -> None:
    """Everything about one job, or about one task of an array."""
    found = connect().get(f"/jobs/{job}", tasks=max(tasks, TASKS_SOUGHT))
    if json:
        show.document(found)
        return
    show.facts((*_facts(found), *(_batch(found["batch"]) if "batch" in found else _asked(found["request"]))))
    if found["request"]["array"] and found["tasks"] and tasks:
        show.say()
        first = sorted(
            found["tasks"], key=lambda task: (task["state"] != "failed", task["state"] in ENDED, task["index"])
        )
        _show_tasks(first[:tasks])
        started = found["counts"]["size"] - found["counts"]["waiting"]
        if started > tasks and "." not in job:
            show.note(f"{tasks} of {started} tasks that have started; --tasks shows more")


def _facts(job: dict[str, Any]) -> list[tuple[str, Any]]:
    started, ended, message = job["started"], job["ended"], job["message"]
    only: dict[str, Any] = job["tasks"][0] if job["tasks"] and not job["request"]["array"] else {}
    return [
        ("job", f"{job['id']}  {show.clean(job['name'])}"),
        ("account", show.clean(job["account"])),
        (
            "state",
            show.state(job["state"]) + (f" with exit code {job['exit_code']}" if job["exit_code"] is not None else ""),
        ),
        ("waits", show.clean(job["reason"] or "")),
        ("message", show.clean(message)),
        ("tasks", _counts(job["counts"]) if job["request"]["array"] else ""),
        ("attempt", job["attempt"] if job["attempt"] > 1 else ""),
        ("nodes", ", ".join(job["nodes"])),
        ("submitted", f"{show.local(job['submitted'])}  ({show.ago(job['submitted'])} ago)"),
        ("started", show.local(started) if started else ""),
        ("ended", f"{show.local(ended)}  (took {show.between(started, ended)})" if ended else ""),
        ("used", _used(only) if only and only["ended"] else ""),
    ]


def _batch(batch: dict[str, Any]) -> list[tuple[str, Any]]:
    return [
        ("model", show.clean(batch["model"] or "")),
        ("tokens", f"{batch['prompt_tokens']:,} in, {batch['completion_tokens']:,} out"),
        ("ends at the latest", show.local(batch["expires"])),
        ("output", batch["output_file"] or ""),
        ("errors", batch["error_file"] or ""),
    ]


def _counts(counts: dict[str, int]) -> str:
    parts = [f"{number:,} {word}" for word, number in counts.items() if number and word != "size"]
    return f"{counts['size']:,}: " + ", ".join(parts)


def _used(task: dict[str, Any]) -> str:
    return f"{format_time_ms(task['cpu_ms'])} of cpu time, {format_size(task['memory_peak_bytes'])} of memory at most"


def _asked(request: dict[str, Any]) -> list[tuple[str, Any]]:
    """What was asked for, in the words of the options."""
    nodes = f" on each of {request['nodes']} nodes" if request["nodes"] > 1 else ""
    each = f"{show.devices(request)}{nodes}"
    limits = f"{each}, at most {format_time_ms(round(request['time'] * 1000))}"
    after = [name for name in request["after"] if name not in request["inputs"]]
    sandbox = request["sandbox"] + (", with network" if request["net"] else "")
    priority = request["priority"] if request["priority"] != "normal" else ""
    told = request | {"after": after, "sandbox": sandbox, "priority": priority}
    return [
        ("asked for", limits),
        *((name, _told(value)) for name, value in told.items() if name not in TOLD_OTHERWISE),
    ]


def _told(value: Any) -> str:
    """The value of a key for people; empty for what says nothing."""
    if is_object(value):
        value = [f"{name}={text}" for name, text in value.items()]
    return show.clean(", ".join(value) if is_list(value) else str(value or ""))


def _show_tasks(tasks: list[dict[str, Any]]) -> None:
    head = ("TASK", "STATE", "ATTEMPT", "NODES", "TIME", "CPU", "MEMORY", "EXIT", "MESSAGE")
    rows = [
        (
            task["id"],
            show.state(task["state"]),
            task["attempt"],
            places(task["nodes"]),
            show.between(task["started"], task["ended"]),
            format_time_ms(task["cpu_ms"]) if task["ended"] else "-",
            format_size(task["memory_peak_bytes"]) if task["ended"] else "-",
            "-" if task["exit_code"] is None else task["exit_code"],
            show.clean(task["message"]),
        )
        for task in tasks
    ]
    show.table(head, rows, right=("ATTEMPT", "TIME", "CPU", "MEMORY", "EXIT"))


def cancel(job: Task, json: Json = False) -> None:
    """End a job, or one task of an array: SIGTERM, a time of grace, then SIGKILL.

    What has ended stays as it is.
    """
    found = connect().post(f"/jobs/{job}/cancel")
    if json:
        show.document(found)
        return
    ended = found["state"] in ENDED
    show.say(f"{job} " + (f"is {show.state(found['state'])}" if ended else "is being stopped"))
