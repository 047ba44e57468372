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

from mycelium.base import files
from mycelium.base.appended import appended
from mycelium.base.errors import KINDS, Conflict, Problem, Unavailable
from mycelium.base.home import Home
from mycelium.cli.flags import takes_settings
from mycelium.cli.options import Json
from mycelium.cli.site import before
from mycelium.client import settings, show
from mycelium.client.site import Client
from mycelium.client.table import PORT, SETTINGS, of_command

if TYPE_CHECKING:
    from mycelium.head.settings import SiteSettings

READY_S = 30.0
MANY_READY_S = 120.0  # of an engine for many machines, on a busy one


@takes_settings("up")
def up(
    detach: Annotated[bool, typer.Option("--detach", help="Return when it is ready; it goes on behind.")] = False,
    json: Json = False,
) -> None:
    """Start a site on this machine: a head, and its nodes.

    The first start makes the account `admin`; its token lies in the site's directory, where the commands of this
    machine find it. Stop the site with `myc down`, or with Ctrl-C where it runs.
    """
    wanted = settings.of_command("up") | {"nodes": settings.get("nodes") or _nodes_before()}
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
        files.write(Home(chosen.home).nodes_count, f"{chosen.nodes}\n", durable=True)
        before.keep(chosen.home, wanted, url)
        _say_ready(url, wanted, begun, detached=False, json=json)

    run(chosen, ready)
    show.note("the site has stopped; `myc up` starts it again where it was")


def _nodes_before() -> int:
    """As many nodes as the site had when it ran last: so that it is taken up where it was."""
    with contextlib.suppress(OSError, ValueError):
        return max(1, int(Home(settings.home()).nodes_count.read_text()))
    return 1


def _site_settings(wanted: dict[str, Any]) -> SiteSettings:
    from mycelium.head.settings import SiteSettings

    said = {key: value for key, value in wanted.items() if value is not None}
    chosen: dict[str, Any] = {
        setting.name: setting.default for setting in of_command("up") if setting.default is not None
    } | said
    chosen.setdefault("port", _free_port(chosen["host"]))
    chosen["home"] = settings.home()
    return SiteSettings(**chosen)


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
    path = Home(home).head_log
    said = {key: value for key, value in (wanted | {"home": home}).items() if value is not None}
    words = [word for key, value in said.items() for word in SETTINGS[key].words(value)]
    with appended(path) as output:
        start = output.tell()
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "mycelium.cli.main", "up", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # what it says to people is said by this process
            stderr=output,
            cwd="/",
            start_new_session=True,
        )
    url = _wait_ready(child, path, start, many=wanted["engine"] not in (None, "local"))
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
    if wanted["engine"] not in (None, "local"):
        show.say(f"  join    myc join {url.partition('//')[2]} --token-file FILE")
        show.say(f"          on other machines, where FILE is a copy of {Home(home).join_token}")
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
