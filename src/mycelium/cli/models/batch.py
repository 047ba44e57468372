"""`myc batch …`: files of requests, worked off in idle time."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from mycelium.base.errors import Conflict, Missing, Refused, Unavailable
from mycelium.base.units import format_time_ms
from mycelium.cli.models.ask import GatewayClient
from mycelium.cli.options import Json
from mycelium.client import show
from mycelium.client.site import connect

LOOK_S = 0.25
ENDED = ("completed", "failed", "expired", "cancelled")
Name = Annotated[str, typer.Argument(metavar="BATCH", help="Such as batch_3f…; the beginning is enough.")]


def submit(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="One request a line, as OpenAI's batches have them.")],
    window: Annotated[str, typer.Option(metavar="TIME", help="What is not done after it, is not run.")] = "24h",
    wait: Annotated[bool, typer.Option("--wait", help="Until it has ended, and show how far it is.")] = False,
    json: Json = False,
) -> None:
    """Submit a file of requests. They run whenever nobody else wants the model."""
    gateway = GatewayClient()
    endpoint = _endpoint(path)
    file = gateway.upload(path)
    asked = {"input_file_id": file["id"], "endpoint": endpoint, "completion_window": window}
    batch = gateway.ask("POST", "/v1/batches", asked)
    if wait:
        batch = _wait(gateway, batch["id"], quiet=json)
    if json:
        show.document(batch)
    else:
        _say(batch)
    if batch["status"] in ("failed", "expired", "cancelled"):
        mistakes: list[dict[str, Any]] = batch["errors"]["data"] if batch["errors"] else []
        first = mistakes[0]["message"] if mistakes else ""
        said = f": {show.clean(first)}" if first else ""
        raise Refused(f"{batch['id']} is {batch['status']}{said}", hint=f"`myc batch show {batch['id']}` says more")


def _endpoint(path: Path) -> str:
    """The endpoint that the first request names."""
    import json as documents

    try:
        with path.open() as file:
            first = documents.loads(file.readline())
        return str(first["url"])
    except OSError as error:
        raise Missing(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        hint = 'a line is {"custom_id": …, "method": "POST", "url": "/v1/chat/completions", "body": {…}}'
        raise Refused(f"the first line of {path} is not a request", hint=hint) from None


def _wait(gateway: GatewayClient, name: str, *, quiet: bool) -> Any:
    began = time.monotonic()
    while True:
        try:
            batch = gateway.ask("GET", f"/v1/batches/{name}")
        except Unavailable:
            batch = {"status": "unknown"}  # the site is away for a moment; what was done is kept
        if batch["status"] in ENDED:
            if sys.stderr.isatty():
                sys.stderr.write("\r\x1b[K")
            return batch
        if not quiet and sys.stderr.isatty() and "request_counts" in batch:
            sys.stderr.write(f"\r\x1b[K{name}: {_progress(batch, time.monotonic() - began)}")
            sys.stderr.flush()
        time.sleep(LOOK_S)


def _progress(batch: Any, took_s: float) -> str:
    counts = batch["request_counts"]
    done = counts["completed"] + counts["failed"]
    said = f"{batch['status']}, {done:,} of {counts['total']:,} lines"
    if done and took_s > 1 and done < counts["total"]:
        said += f", about {format_time_ms(round(took_s / done * (counts['total'] - done)) * 1000)} more"
    return said


def list_batches(json: Json = False) -> None:
    """List the batches of the account, newest first."""
    found = GatewayClient().ask("GET", "/v1/batches?limit=100")
    if json:
        show.document(found)
        return
    rows: list[tuple[str, ...]] = []
    for batch in found["data"]:
        counts = batch["request_counts"]
        done = f"{counts['completed']:,}/{counts['total']:,}"
        tokens = f"{batch['usage']['total_tokens']:,}"
        rows.append((batch["id"], batch["status"], done, f"{counts['failed']:,}", tokens, _moment(batch["created_at"])))
    show.table(("BATCH", "STATE", "DONE", "FAILED", "TOKENS", "SUBMITTED"), rows, right=("DONE", "FAILED", "TOKENS"))


def show_batch(name: Name, json: Json = False) -> None:
    """How far a batch is, when it should be done, what holds it up, and what was wrong with it."""
    gateway = GatewayClient()
    batch = _find(gateway, name)
    if json:
        show.document(batch)
        return
    _say(batch)
    for line in connect().get(f"/jobs/{batch['id']}/why")["says"]:
        show.say(show.clean(line))


def _find(gateway: GatewayClient, name: str) -> Any:
    found = [batch for batch in gateway.ask("GET", "/v1/batches?limit=1000")["data"] if batch["id"].startswith(name)]
    if not found:
        raise Missing(f"no batch of yours is called {name!r}", hint="`myc batch list` lists them")
    if len(found) > 1:
        raise Conflict(f"{len(found)} batches begin with {name!r}", hint="write more of its name")
    return found[0]


def _say(batch: Any) -> None:
    counts, used = batch["request_counts"], batch["usage"]
    running = batch["status"] == "in_progress" and batch["in_progress_at"]
    took_s = time.time() - batch["in_progress_at"] if running else 0.0
    show.facts(
        (
            ("batch", batch["id"]),
            ("state", _progress(batch, took_s) if running else batch["status"]),
            ("lines", f"{counts['total']:,}, {counts['completed']:,} completed, {counts['failed']:,} failed"),
            ("tokens", f"{used['input_tokens']:,} in, {used['output_tokens']:,} out"),
            ("submitted", _moment(batch["created_at"])),
            ("ends at the latest", _moment(batch["expires_at"]) if batch["status"] not in ENDED else ""),
            ("output", batch["output_file_id"]),
            ("errors", batch["error_file_id"]),
        )
    )


def results(
    name: Name,
    errors: Annotated[bool, typer.Option("--errors", help="The requests that failed instead.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to; else stdout.")
    ] = None,
    json: Json = False,
) -> None:
    """The results of a batch, one a line, in no order; custom_id says which is which."""
    gateway = GatewayClient()
    batch = _find(gateway, name)
    file = batch["error_file_id" if errors else "output_file_id"]
    if file is None:
        state = batch["status"]
        if state in ENDED:
            raise Missing(f"{batch['id']} is {state} and has no {'errors' if errors else 'results'}")
        raise Conflict(f"{batch['id']} is {state}", hint="its results are there once it has ended")
    sink = output.open("wb") if output else sys.stdout.buffer
    for piece in gateway.download(f"/v1/files/{file}/content"):
        sink.write(piece)
    sink.flush()
    if output:
        sink.close()
        if json:
            show.document({"batch": batch["id"], "file": file, "path": str(output)})


def cancel(name: Name, json: Json = False) -> None:
    """Run no more of it. What was finished is kept."""
    gateway = GatewayClient()
    batch = gateway.ask("POST", f"/v1/batches/{_find(gateway, name)['id']}/cancel")
    if json:
        show.document(batch)
        return
    show.say(f"{batch['id']} is {batch['status']}")


def _moment(seconds: int) -> str:
    return show.local(datetime.fromtimestamp(seconds, UTC).isoformat())
