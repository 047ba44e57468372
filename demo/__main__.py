"""The demo, in order: a site, an array over real input, an accident, the merged result, and the site's own account.

Every claim is checked; it exits with 1 when one was not true. It leaves no process and no directory behind. With
`--hosts 3` the nodes are hosts of their own, of which one is killed and one cut off (see `hosts`). `--short` leaves the
language model out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from demo import library, models, similar
from demo.claims import Claims
from demo.site import Failed, Site
from demo.watch import Watch
from mycelium.base.errors import Problem
from mycelium.client.site import Client

NODES = 4
HOSTS_MIN = 3
ACCIDENT_AT = 0.2  # of the tasks done
TRIES = 3  # a fast machine may be done before anything can happen to it
PATIENCE_S = 120.0
PARTS_SHOWN = 8

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    begun = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = _options()
    site = _site(options.hosts)
    claims = Claims(console)
    try:
        with site:
            _run(site, claims)
            if not options.short:
                models.show(site, claims, console)
    except (Failed, Problem) as error:
        console.print(f"[bold red]the demo failed:[/] {error}", markup=True)
        return 1
    except KeyboardInterrupt:
        console.print("stopped")
        return 130
    title("Afterwards")
    claims.hold("no process of the site is left", not site.processes(), site.processes())
    claims.hold("no directory of the site is left", not site.root.exists(), site.root)
    took_s = time.monotonic() - begun
    if claims.broken:
        console.print(f"\n[bold red]{claims.broken} of the demo's claims were not true[/] ({took_s:.0f}s)")
        return 1
    console.print(f"\n[bold green]all of it was true[/], in {took_s:.0f}s. Your own site: [bold]myc up --detach[/]")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", allow_abbrev=False)
    parser.add_argument("--hosts", type=int, metavar="N", help="hosts of their own, over Ray; needs root and iproute2")
    parser.add_argument("--short", action="store_true", help="without the language model")
    options = parser.parse_args()
    if options.hosts is not None and options.hosts < HOSTS_MIN:
        parser.error(f"the demo takes {HOSTS_MIN} hosts or more, because one dies and one is cut off")
    return options


def _site(hosts: int | None) -> Site:
    if hosts is None:
        return Site(NODES)
    from demo.hosts import Hosts

    return Hosts(hosts)


def title(text: str) -> None:
    console.print(f"\n[bold]{text}[/]")


def say(text: str) -> None:
    console.print(f"  {text}", style="dim")


def _run(site: Site, claims: Claims) -> None:
    parts = library.parts()
    names = [part.name for part in parts]
    files = sum(len(part.files) for part in parts)
    shutil.copytree(Path(__file__).parent / "job", site.work, dirs_exist_ok=True)
    library.write(parts, site.work)

    title(site.about)
    begun = time.monotonic()
    url = site.up()
    say(f"{url} answers after {time.monotonic() - begun:.1f}s")

    client = site.client()
    for _ in range(TRIES):
        array, merge, why = _begin(site, client, files, len(parts))
        title("While it runs, one node's agent and everything that runs there get SIGKILL")
        with Watch(console, client, array, names) as watch:
            node, killed = accident(site, watch)
            until(watch, lambda watch=watch: watch.found["state"] in ("done", "failed", "cancelled"))
        if killed:
            break
        say("all was done before a node could be caught: once more")
    else:
        raise Failed("no node could be caught while it worked")
    say(f"{node} was killed with {', '.join(killed)} on it")
    final = wait_ended(client, merge)
    found = client.get(f"/jobs/{array}", tasks=10_000)
    table_of_tasks(found, names)

    title(f"The merged result   myc outputs {merge}")
    site.myc("outputs", merge, str(site.root / "result"))
    result = json.loads((site.root / "result" / "library.json").read_text())
    table_of_parts(result)

    again = next((task["id"] for task in found["tasks"] if task["attempt"] > 1), f"{array}.0")
    title(f"The story of {again}, which was run again   myc story {again}")
    story = site.ask("story", again)["story"]
    console.print(indented(site.myc("story", again)), markup=False)

    title("Is all of that true?")
    check(claims, site, parts, found, final, result, killed, story, why, array)
    similar.show(site, claims, console)


def _begin(site: Site, client: Client, files: int, parts: int) -> tuple[str, str, dict[str, Any]]:
    """Submit the array and the job that waits for it; their names, and why the second one waits."""
    title("An index of Python's standard library, a task for each part, and a job that merges what they find")
    array = submit(site, "index", "--array", f"0-{parts - 1}", "--outputs", "index/*.json", "python3", "index.py")
    merge = submit(site, "merge", "--inputs", array, "--outputs", "library.json", "python3", "merge.py")
    asked = client.get(f"/jobs/{merge}/why")  # as the command does, without the time that a command takes to start
    say(f"{array} indexes {files} modules in {parts} parts; {merge} waits for it")
    title(f"Why does {merge} wait?   myc why {merge}")
    console.print(indented("\n  ".join(asked["says"])), markup=False)
    return array, merge, asked["why"]


def submit(site: Site, name: str, *words: str) -> str:
    *options, program, script = words
    return site.ask("run", "--detach", "--name", name, "--memory", "256M", *options, "--", program, script)["id"]


def accident(site: Site, watch: Watch) -> tuple[str, list[str]]:
    """Wait until a part is done, then kill a node that works; the node, and the steps that died with it, if any ran."""
    until(watch, lambda: watch.ended / watch.size >= ACCIDENT_AT)
    while watch.ended < watch.size:
        for node in reversed(watch.nodes):
            if site.mortal(node["id"]) and (killed := site.kill(node["id"])):
                return node["id"], killed
        watch.look()
    return "", []


def until(watch: Watch, enough: Any) -> None:
    deadline = time.monotonic() + PATIENCE_S
    watch.look()
    while not enough():
        if time.monotonic() > deadline:
            raise Failed(f"{watch.ended} of {watch.size} tasks had ended after {PATIENCE_S:.0f}s")
        watch.look()


def wait_ended(client: Any, job: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while (found := client.get(f"/jobs/{job}"))["ended"] is None:
        if time.monotonic() > deadline:
            raise Failed(f"{job} is {found['state']} after {PATIENCE_S:.0f}s")
        time.sleep(0.05)
    return found


def indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.rstrip().splitlines())


def table_of_tasks(job: dict[str, Any], names: list[str]) -> None:
    """Who ran what: a row for each node, and the tasks that were run again by name."""
    title(f"Who ran what   myc job show {job['id']}")
    table = Table(box=None, padding=(0, 2), header_style="bold")
    table.add_column("node", no_wrap=True)
    table.add_column("tasks", justify="right", no_wrap=True)
    table.add_column("cpu time", justify="right", no_wrap=True)
    table.add_column("parts")
    for node in sorted({node for task in job["tasks"] for node in task["nodes"]}):
        mine = [task for task in job["tasks"] if task["nodes"] == [node]]
        cpu_s = sum(task["cpu_ms"] for task in mine) / 1000
        parts = [names[task["index"]] + (f" (attempt {task['attempt']})" * (task["attempt"] > 1)) for task in mine]
        parts.sort(key=lambda part: "attempt" not in part)
        table.add_row(node, str(len(mine)), f"{cpu_s:.1f}s", ", ".join(parts))
    console.print(table, soft_wrap=False)


def table_of_parts(result: dict[str, Any]) -> None:
    table = Table(box=None, padding=(0, 2), header_style="bold")
    table.add_column("part")
    for column in ("modules", "definitions", "lines"):
        table.add_column(column, justify="right")
    parts = result["parts"].items()
    largest = sorted(parts, key=lambda pair: -pair[1]["lines"])
    for name, part in largest[:PARTS_SHOWN]:
        table.add_row(name, f"{part['modules']:,}", f"{part['definitions']:,}", f"{part['lines']:,}")
    total = [sum(part[column] for _, part in parts) for column in ("modules", "definitions", "lines")]
    table.add_row(f"all {len(parts)} parts", *[f"{number:,}" for number in total], style="bold")
    console.print(table, soft_wrap=False)
    words = list(result["words"])[:10]
    say(f"the words its authors use most: {', '.join(words)}")


def check(
    claims: Claims,
    site: Site,
    parts: list[library.Part],
    array: dict[str, Any],
    merge: dict[str, Any],
    result: dict[str, Any],
    killed: list[str],
    story: list[dict[str, Any]],
    why: dict[str, Any],
    name: str,
) -> None:
    counts = array["counts"]
    claims.hold(f"all {len(parts)} tasks of the array are done", counts["done"] == len(parts), counts)
    claims.hold("every node took part", len({node for task in array["tasks"] for node in task["nodes"]}) == site.nodes)
    lost = {step.rsplit("-a", 1)[0] for step in killed}
    again = {task["id"] for task in array["tasks"] if task["attempt"] > 1}
    claims.hold(f"what died with the node was run again: {', '.join(sorted(lost))}", lost and lost <= again, again)
    kinds = [event["kind"] for event in story]
    claims.hold("its story tells of the loss and of one commit", one_commit_after_loss(kinds), kinds)
    claims.hold("the merging job waited for the array", name in json.dumps(why["binds"]), why)
    claims.hold("and is done", merge["state"] == "done", merge["state"])
    counted = {part.name: library.lines(part) for part in parts}
    found = {part: numbers["lines"] for part, numbers in result["parts"].items()}
    claims.hold(f"the merged {sum(counted.values()):,} lines are those counted without the site", counted == found)
    audit = site.ask("audit", "verify")
    claims.hold(f"the log is whole: {audit['says']}", audit["ok"], audit["says"])


def one_commit_after_loss(kinds: list[str]) -> bool:
    return kinds.count("TaskEnded") == 1 and "TaskRequeued" in kinds[: kinds.index("TaskEnded")]


if __name__ == "__main__":
    sys.exit(main())
