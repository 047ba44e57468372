"""`myc serve`: make a deployment of a model, change it, or stop it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from mycelium.base.errors import Missing, Refused, Unavailable
from mycelium.cli.options import Json
from mycelium.client import show
from mycelium.client.site import Client, connect

WAIT_S = 900.0
LOOK_S = 0.1
KEY_LENGTH_MAX = 1024


def serve(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model, and what it is served as.")],
    model: Annotated[
        str,
        typer.Option(metavar="MODEL", help="The model, when it is served under another name here or at the upstream."),
    ] = "",
    upstream: Annotated[
        str, typer.Option(metavar="URL", help="Pass it on to this server, which speaks OpenAI's API.")
    ] = "",
    key_file: Annotated[
        str, typer.Option(metavar="FILE", help="The key that the upstream is shown; - reads it from stdin.")
    ] = "",
    replicas: Annotated[int | None, typer.Option(metavar="N", help="So many, always. [1]")] = None,
    least: Annotated[int | None, typer.Option("--min", metavar="N", help="At least; 0 lets it sleep.")] = None,
    most: Annotated[int | None, typer.Option("--max", metavar="N", help="At most, as the load asks.")] = None,
    cpus: Annotated[str, typer.Option(metavar="N", help="Cpus of each replica. [1]")] = "",
    memory: Annotated[str, typer.Option(metavar="SIZE", help="Of each replica. [twice the weights and 1G]")] = "",
    gpus: Annotated[int | None, typer.Option(metavar="N", help="Gpus of each replica.")] = None,
    parallel: Annotated[
        int | None, typer.Option(metavar="N", help="Requests that a replica takes at once. [4]")
    ] = None,
    context: Annotated[
        int | None, typer.Option(metavar="TOKENS", help="The longest request and answer. [2048]")
    ] = None,
    backend: Annotated[str, typer.Option(metavar="NAME", help="llama.cpp or vllm. [llama.cpp]")] = "",
    on: Annotated[str, typer.Option(metavar="LABELS", help="Nodes with these labels, such as gpu,arch=arm64.")] = "",
    kind: Annotated[str, typer.Option(metavar="KIND", help="Of an upstream: chat or embedding.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what replicas would run.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Serve it no more.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait until it is ready.")] = False,
    json: Json = False,
) -> None:
    """Serve a model from the site's nodes, or from a server elsewhere, to everybody with a key.

    Replicas come and go with the load between --min and --max. Said again, it changes the deployment.
    """
    client = connect()
    if stop:
        _stop(client, name, json=json)
        return
    of_replicas = {
        "--replicas": replicas,
        "--min": least,
        "--max": most,
        "--cpus": cpus,
        "--memory": memory,
        "--gpus": gpus,
        "--context": context,
        "--backend": backend,
        "--on": on,
    }
    check_options(upstream, of_replicas, {"--kind": kind, "--key-file": key_file})
    asked = {
        "name": name,
        "model": model or (None if upstream else name),
        "upstream": upstream or None,
        "upstream_key": _key(key_file),
        "replicas_min": replicas if least is None else least,
        "replicas_max": replicas if most is None else most,
        "cpus": cpus or None,
        "memory": memory or None,
        "gpus": gpus,
        "parallel": parallel,
        "context": context,
        "backend": backend or None,
        "kind": kind or None,
        "on": on or None,
        "dry_run": dry_run,
    }
    found = client.post("/deployments", {key: value for key, value in asked.items() if value is not None})
    if dry_run:
        _say_dry(found, json=json)
        return
    if not no_wait:
        found = wait_ready(client, name)
    gateway = client.get("/deployments")["gateway"]
    if json:
        show.document({**found, "gateway": gateway})
        return
    ready = sum(1 for replica in found["replicas"] if replica["state"] == "ready")
    some = f"from {found['upstream']}" if upstream else f"by {show.counted(ready, 'replica')}"
    served = gateway and (ready or upstream)
    show.say(f"{name} is served {some} at {gateway}/v1" if served else f"{name} is {found['state']}")
    talk = "" if found["kind"] == "embedding" else f"talk to it: myc chat {name}    "
    show.note(f"{talk}make a key: myc key create --name KEY")


def check_options(upstream: str, of_replicas: Mapping[str, object], of_upstreams: Mapping[str, object]) -> None:
    """What would have no effect is not taken silently. Errors: `Refused`."""
    for option, value in (of_replicas if upstream else of_upstreams).items():
        if value is not None and value != "":
            what = "an upstream has no replicas of its own" if upstream else "it is for an upstream"
            raise Refused(f"{option} has no effect here: {what}", hint="see `myc serve --help`")


def _key(path: str) -> str | None:
    """Errors: `Missing`, `Refused`."""
    if not path:
        return None
    try:
        with open(0 if path == "-" else path, encoding="utf-8", errors="replace") as file:
            key = file.read(KEY_LENGTH_MAX).strip()
    except OSError as error:
        raise Missing(f"{path} cannot be read: {error.strerror}") from None
    if not key:
        raise Refused(f"{path} holds no key")
    return key


def _say_dry(found: dict[str, Any], *, json: bool) -> None:
    if json:
        show.document(found)
        return
    show.facts(
        (
            ("each replica", show.devices(found["needs"]) if found["command"] else ""),
            ("replicas", f"{found['replicas_min']} to {found['replicas_max']}" if found["command"] else "none"),
            ("nodes with", f"the label {found['backend']}" if found["command"] else ""),
            ("command", found["command"] or f"none: requests go to {found['upstream']}"),
            ("not now", found["message"]),
        )
    )


def wait_ready(client: Client, name: str) -> Any:
    """The deployment, once it answers as it was asked to. Errors: `Unavailable` with what its replicas died of."""
    until = time.monotonic() + WAIT_S
    told = ""
    while time.monotonic() < until:
        found = client.get(f"/deployments/{name}")
        ready = sum(1 for replica in found["replicas"] if replica["state"] == "ready")
        gateway = client.get("/deployments")["gateway"]
        if gateway and found["upstream"] and found["state"] != "starting":
            if found["state"] == "away":
                show.note(f"{found['upstream']} does not answer yet: {show.clean(found['replicas'][-1]['why'])}")
            return found
        if gateway and found["model"] and ready >= min(found["target"], found["replicas_max"]):
            return found
        if found["failures"] >= 3:
            raise Unavailable(
                f"the replicas of {name} fail: {found['message']}",
                hint=f"`myc jobs --all` lists them as 'serve {name}', `myc logs JOB` shows what one said",
            )
        said = f"{ready} of {found['target']} replicas are ready" if found["model"] else "asking the upstream"
        if said != told:
            told = said
            show.note(said)
        time.sleep(LOOK_S)
    raise Unavailable(f"{name} was not ready after {WAIT_S:.0f}s", hint="`myc deployment top` shows its replicas")


def _stop(client: Client, name: str, *, json: bool) -> None:
    found = client.delete(f"/deployments/{name}")
    if json:
        show.document(found)
        return
    show.say(f"{name} is served no more; its replicas end what they have begun")
