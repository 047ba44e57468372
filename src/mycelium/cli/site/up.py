"""`myc up`: a site on this machine, in this terminal or behind it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from mycelium.base.appended import appended
from mycelium.base.errors import KINDS, Conflict, Problem, Unavailable
from mycelium.base.limits import GANG_NODES_MAX, GATEWAYS_MAX
from mycelium.cli.options import Json
from mycelium.cli.site import before
from mycelium.client import settings, show
from mycelium.client.site import Client

if TYPE_CHECKING:
    from mycelium.head.settings import SiteSettings

PORT = 8700  # tried first, so that a site is found where it was; any other one when it is taken
READY_S = 30.0
NODES_FILE = "nodes.count"
MANY_READY_S = 120.0  # of an engine for many machines, on a busy one


def up(
    nodes: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=GANG_NODES_MAX, help="Virtual nodes. [as before; 1]")
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="P", min=0, max=65535, help=f"Where to listen; 0 is any. [{PORT}, if free]")
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="127.0.0.1 keeps it to this machine.")] = "",
    home: Annotated[str, typer.Option(metavar="DIR", help="Where the site keeps its state.")] = "",
    log_url: Annotated[str, typer.Option(metavar="URL", help="Keep the log in PostgreSQL instead of SQLite.")] = "",
    log_keep: Annotated[
        str, typer.Option(metavar="DAYS", help="How long events stay in the log before files alone hold them. [30]")
    ] = "",
    name: Annotated[str, typer.Option(metavar="TEXT", help="What the site is called. [mycelium]")] = "",
    engine: Annotated[
        str, typer.Option(metavar="NAME", help="local, or ray for many machines. [as before; local]")
    ] = "",
    address: Annotated[str, typer.Option(metavar="IP", help="Where other machines reach this one. [as before]")] = "",
    tls: Annotated[
        bool | None,
        typer.Option("--tls/--no-tls", help="Speak TLS, with certificates of the site's own CA. [as before; no]"),
    ] = None,
    gateways: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=GATEWAYS_MAX, help="Gateways to models. [as before; 1]")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return when it is ready; it goes on behind.")] = False,
    json: Json = False,
) -> None:
    """Start a site on this machine: a head, and its nodes.

    The first start makes the account `admin`; its token lies in the site's directory, where the commands of this
    machine find it. Stop the site with `myc down`, or with Ctrl-C where it runs.
    """
    if home:
        settings.also_told(home=home)
    wanted = {
        "nodes": settings.number("nodes", nodes) or _nodes_before(),
        "port": settings.number("port", port),
        "host": host or settings.get("host"),
        "log_url": log_url or settings.get("log_url"),
        "log_keep": log_keep or settings.get("log_keep"),
        "name": name or settings.get("name"),
        "engine": engine or settings.get("engine"),
        "address": address or settings.get("address"),
        "tls": tls if tls is not None else bool(settings.get("tls")) or None,
        "gateways": settings.number("gateways", gateways),
    }
    wanted = before.fill(settings.home(), wanted)
    if wanted["address"] and not wanted["host"]:
        wanted["host"] = wanted["address"]
    _refuse_second()
    if detach:
        _start_behind(wanted, json=json)
        return
    from mycelium.serve.site import run

    begun = time.monotonic()
    chosen = _site_settings(wanted)

    def ready(url: str) -> None:
        (chosen.home / NODES_FILE).write_text(f"{chosen.nodes}\n")
        before.keep(chosen.home, wanted, url)
        _say_ready(url, wanted, begun, detached=False, json=json)

    run(chosen, ready)
    show.note("the site has stopped; `myc up` starts it again where it was")


def _nodes_before() -> int:
    """As many nodes as the site had when it ran last: so that it is taken up where it was."""
    with contextlib.suppress(OSError, ValueError):
        return max(1, int((settings.home() / NODES_FILE).read_text()))
    return 1


def _site_settings(wanted: dict[str, Any]) -> SiteSettings:
    from mycelium.head.settings import SiteSettings
    from mycelium.log.retention import parse_keep

    if wanted["log_keep"]:
        parse_keep(wanted["log_keep"])
    given = {key: value for key, value in wanted.items() if value not in ("", None)}
    chosen = {"port": _free_port(wanted["host"] or "127.0.0.1"), **given}
    return SiteSettings(home=settings.home(), **chosen)


def _free_port(host: str) -> int:
    import socket

    with contextlib.suppress(OSError), socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind((host, PORT))
        return PORT
    return 0


def _refuse_second() -> None:
    found = settings.running()
    if found:
        raise Conflict(
            f"a site runs already at {found['url']} (pid {found['pid']}, in {settings.home()})",
            hint="`myc status` shows it, `myc down` stops it; --home starts another one elsewhere",
        )


# Behind the terminal.


def _start_behind(wanted: dict[str, Any], *, json: bool) -> None:
    begun = time.monotonic()
    home = settings.home()
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        from mycelium.head.settings import unusable_home

        raise unusable_home(home, error) from None
    path = home / "head.log"
    given = {key: value for key, value in wanted.items() if value not in ("", None) and key != "tls"}
    words = [f"--{key.replace('_', '-')}={value}" for key, value in given.items()]
    words += ["--tls" if wanted["tls"] else "--no-tls"]
    with appended(path) as output:
        start = output.tell()
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "mycelium.cli.main", "up", f"--home={home}", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # what it says to people is said by this process
            stderr=output,
            cwd="/",
            start_new_session=True,
        )
    url = _wait_ready(child, path, start, many=wanted["engine"] not in ("", "local"))
    _say_ready(url, wanted, begun, detached=True, json=json)


def _wait_ready(child: subprocess.Popen[bytes], path: Path, start: int, *, many: bool) -> str:
    """The URL, when it answers. Errors: what the site itself said before it ended."""
    until = time.monotonic() + (MANY_READY_S if many else READY_S)
    while time.monotonic() < until:
        if child.poll() is not None:
            _raise_as(child.returncode, path, start)
        found = settings.running()
        if found.get("pid") == child.pid:
            with contextlib.suppress(Problem):
                Client(found["url"]).get("/health")
                return found["url"]
        time.sleep(0.02)
    child.terminate()
    raise Unavailable(f"the site was not ready after {READY_S:.0f}s", hint=f"its log is {path}")


def _raise_as(code: int, path: Path, start: int) -> NoReturn:
    """The error of the child, said again here."""
    with path.open("rb") as file:
        file.seek(start)
        said = file.read(64_000).decode(errors="replace").strip()
    kind = next((kind for kind in KINDS.values() if kind.exit == code), Unavailable)
    lines = [line.strip() for line in said.splitlines()]
    hint = next((line.removeprefix("hint: ") for line in lines if line.startswith("hint: ")), "")
    message = next((line.removeprefix("myc: ") for line in lines if line.startswith("myc: ")), "")
    raise kind(message or f"the site ended at once with exit code {code}", hint=hint or f"its log is {path}")


# What people see.


def _say_ready(url: str, wanted: dict[str, Any], begun: float, *, detached: bool, json: bool) -> None:
    home, nodes = settings.home(), wanted["nodes"]
    if json:
        pid = settings.running().get("pid")
        show.document(
            {"url": url, "home": str(home), "pid": pid, "token_file": str(settings.token_path()), "nodes": nodes}
        )
        sys.stdout.flush()
        return
    after = show.paint(f"ready after {time.monotonic() - begun:.1f}s", "2")
    show.say(f"{show.paint('●', '32')} site at {show.paint(url, '1')} with {show.counted(nodes, 'node')}  {after}")
    show.facts((("  home", home), ("  token", settings.token_path()), ("  API", f"{url}/docs")))
    if wanted["engine"] not in ("", "local"):
        show.say(f"  join    myc join {url.partition('//')[2]} --token-file FILE")
        show.say(f"          on other machines, where FILE is a copy of {home / 'tokens' / 'join'}")
    cores = len(os.sched_getaffinity(0))
    if nodes > cores:
        said = f"{nodes} virtual nodes offer {nodes} cpus together; this machine has {cores}, so steps share them"
        show.say(f"  {show.paint('note', '33')}   {said}")
    show.say("\nTry, here or in another terminal:" if detached else "\nTry, in another terminal:")
    if home != settings.default_home():
        show.say(f"  export MYC_HOME={home}")
    for command, says in (
        ("myc run -- echo hello", "run something"),
        ("myc nodes", "see the nodes"),
        ("myc --help", "see what else there is"),
        ("myc down", "stop the site"),
    ):
        show.say(f"  {command:<24}{show.paint(says, '2')}")
    sys.stdout.flush()
