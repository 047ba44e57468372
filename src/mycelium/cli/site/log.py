"""`myc log export|prune|verify`: the site's record, what of it lies in files, and whether all of it is unaltered."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from mycelium.base.errors import KINDS, Conflict, Missing, Refused, Unavailable
from mycelium.base.home import Home
from mycelium.cli.options import Json
from mycelium.client import settings, show
from mycelium.client.site import connect

Step = Callable[[int, int], None]  # events so far, events in all
FILES = typer.Argument(metavar="FILE", help="Files of exported events; none: the site's whole log.")


def export(
    to: Annotated[str, typer.Option(metavar="FILE|DIR", help="Where to write; a name in .gz is compressed.")] = ".",
    since: Annotated[str, typer.Option(metavar="DATE", help="Only events of this time or later.")] = "",
    until: Annotated[str, typer.Option(metavar="DATE", help="Only events before this time.")] = "",
    json: Json = False,
) -> None:
    """Write events to a file that verifies by itself. Nothing leaves the log."""
    import http.client

    from mycelium.log.entry import Torn
    from mycelium.log.segment import read_lines, write_segment

    asked = {"since_ns": time_ns(since) if since else None, "until_ns": time_ns(until) if until else None}
    response = connect().download("/log/export", **asked)
    after, last, entries = read_lines(response, "what the site sent")
    path = _target(Path(to), after.seq + 1, last.seq)
    try:
        with _progress(last.seq - after.seq) as step:
            count = write_segment(path, after, last, _counted(entries, after.seq, step))
    except (http.client.HTTPException, Torn) as error:
        why = error.message if isinstance(error, Torn) else f"the site stopped answering ({type(error).__name__})"
        hint = "`myc log verify` says whether the log is whole; else try again"
        raise Unavailable(f"no file was written: {why}", hint=hint) from None
    written = {"file": str(path), "first_seq": after.seq + 1, "last_seq": last.seq, "events": count}
    if json:
        show.document({**written, "hash": last.hash.hex()})
        return
    show.say(f"{show.counted(count, 'event')} ({after.seq + 1} to {last.seq}) are in {path}")


def _target(to: Path, first_seq: int, last_seq: int) -> Path:
    from mycelium.log.retention import file_name

    path = to / file_name(first_seq, last_seq) if to.is_dir() else to
    if not path.parent.is_dir():
        raise Missing(f"no directory {path.parent}", hint="make it first, or name another with --to")
    return path


def _counted(entries: Iterator[Any], first: int, step: Step) -> Iterator[Any]:
    for entry in entries:
        if entry.seq % 1000 == 0:
            step(entry.seq - first, 0)
        yield entry


def prune(
    before: Annotated[str, typer.Option(metavar="DATE", help="Events before this time go.")] = "",
    keep: Annotated[
        int | None, typer.Option(metavar="DAYS", min=0, max=36_500, help="Events older than so many days go.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json: Json = False,
) -> None:
    """Let files alone hold old events: they are exported to the site's home, read back, and only then dropped.

    The site does this by itself with what is older than `log_keep` says. `myc log verify` walks files and log as one.
    """
    if before and keep is not None:
        raise Refused("--before and --keep exclude each other")
    client = connect()
    asked = {"before_ns": time_ns(before)} if before else {} if keep is None else {"keep_days": keep}
    plan = client.post("/log/prune", {**asked, "dry_run": True})
    if dry_run:
        if json:
            show.document(plan)
        else:
            show.say(
                f"{_events(plan['events'], plan['first_seq'])} before {plan['before']} would go to {plan['folder']}"
            )
        return
    went, files = 0, list[str]()
    with _progress(plan["events"]) as step:
        while True:
            piece = client.post("/log/prune", {"before_ns": plan["before_ns"]}, key="again")
            went += piece["events"]
            files += [piece["file"]] if piece["file"] else []
            step(went, plan["events"])
            if not piece["left"] or not piece["events"]:
                break
    if json:
        show.document({"events": went, "files": files, "before": plan["before"], "left": piece["left"]})
        return
    show.say(f"{_events(went, plan['first_seq'])} before {plan['before']} left the log")
    for file in files:
        show.say(f"  {show.clean(file)}")
    if piece["left"]:
        show.note(f"{show.counted(piece['left'], 'event')} more will go when a start no longer needs them")


def _events(count: int, first: int) -> str:
    return f"{show.counted(count, 'event')} ({first} to {first + count - 1})" if count else "no events"


def verify(
    files: Annotated[list[Path], FILES] = [],
    home: Annotated[str, typer.Option(metavar="DIR", help="Read the log of this home itself; no site need run.")] = "",
    json: Json = False,
) -> int:
    """Walk the hash chain: exported files and the log as one. Exits with 5 where an event is not as it was written."""
    if home:
        found = _verify_home(Path(home), files)
    elif files:
        found = _verify_files(files)
    else:
        found = _ask_site()
    if json:
        show.document(found)
    elif found["ok"]:
        what = "the files are" if files and not home else "the log is"
        show.say(show.paint(f"{what} whole: {show.clean(found['says'])}", "32"))
        show.say(f"the hash of the last event is {found['hash']}")
        show.note("keep that hash elsewhere, and it shows later whether all of history was rewritten")
    else:
        show.say(show.paint(f"the log was altered: {show.clean(found['says'])}", "31"))
    for path in found["unseen"]:
        show.note(f"{path} holds exported events and was not found: they were not checked")
    return 0 if found["ok"] else Conflict.exit


def _ask_site() -> dict[str, Any]:
    with _progress(0) as step:
        for event in connect().stream("/log/verify"):
            if event.kind == "verdict":
                return event.data
            if event.kind == "progress":
                step(event.data["event"], event.data["of"])
            if event.kind == "problem":
                wrong = event.data["error"]
                raise KINDS[wrong["kind"]](wrong["message"], hint=wrong["hint"])
    raise Unavailable("the site stopped before it had a verdict", hint="ask again, or read the log itself with --home")


def _verify_home(home: Path, files: list[Path]) -> dict[str, Any]:
    """The log of a home, on its own connection that only reads; files may have moved to where `files` says."""
    from mycelium.head.history import verdict_view
    from mycelium.log import open_log

    log = open_log(settings.get("log_url") or Home(home).log, read_only=True)
    try:
        moved = [*Home(home).exported.glob("*"), *files]
        with _progress(log.last_seq) as step:
            return verdict_view(log.verify(moved, lambda seq: step(seq, log.last_seq)))
    finally:
        log.close()


def _verify_files(files: list[Path]) -> dict[str, Any]:
    """Files by themselves, in the order of their events: each whole, and each the next one's beginning."""
    from mycelium.head.history import verdict_view
    from mycelium.log.audit import verdict_on_files

    with _progress(0) as step:
        return verdict_view(verdict_on_files(files, lambda seq: step(seq, 0)))


def time_ns(text: str) -> int:
    """Of `2026-05-01`, which begins at midnight here, or any ISO 8601 time. Errors: Refused."""
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC)
        found = int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000
    except (ValueError, OverflowError, OSError):
        raise Refused(f"{text[:40]!r} is not a date", hint="write 2026-05-01, or 2026-05-01T12:30:00Z") from None
    if found < 0:
        raise Refused(f"{text[:40]!r} is before 1970")
    return found


def _untold(_done: int, _total: int) -> None:
    """A program reads: it waits for the end."""


@contextlib.contextmanager
def _progress(total: int) -> Generator[Step]:
    """A bar on a terminal; nothing where a program reads."""
    if not sys.stderr.isatty():
        yield _untold
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("events"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("", total=total or None)

        def step(done: int, whole: int) -> None:
            shown.update(task, completed=done, total=whole or total or None)

        yield step
