"""Runs every benchmark in turn, each in a process of its own, and ends with the goals that were missed.

`python -m bench [--small] [--peers] [--only NAME] [--times N] [--json FILE]`. A benchmark that breaks is told and does
not stop the others. Never: judges the goals of a small run, which is there to see that everything works.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Thread

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.alone import DOING
from bench.machine import machine
from bench.row import JSON_VARIABLE, Row, console, print_table, quantity

HERE = Path(__file__).parent
FIRST = ("log", "store", "plan", "steps", "head")  # from the bottom up; what is not named here follows by name
BENCH_S_MAX = 1200  # the longest takes three minutes; what takes longer than this hangs
SAID_LINES = 20  # of a benchmark that broke


@dataclass(frozen=True)
class Outcome:
    """What one benchmark gave: rows, or what it said when it broke."""

    name: str
    title: str
    rows: list[Row]
    took_s: float
    error: str = ""


def names() -> list[str]:
    """Every module here that defines `run`. Found without importing, as some import much."""
    found = {path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_") and has_run(path)}
    return [name for name in FIRST if name in found] + sorted(found - set(FIRST))


def has_run(path: Path) -> bool:
    body = ast.parse(path.read_text()).body
    return any(isinstance(part, ast.FunctionDef) and part.name == "run" for part in body)


def measure(name: str, flags: list[str], progress: Progress) -> Outcome:
    """Run one benchmark once."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="myc-bench-") as folder:
        written = Path(folder) / "rows.json"
        child = subprocess.Popen(
            [sys.executable, "-m", f"bench.{name}", *flags],
            env={**os.environ, JSON_VARIABLE: str(written)},
            cwd=HERE.parent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        said: deque[str] = deque(maxlen=SAID_LINES)
        reader = Thread(target=listen, args=(child, name, said, progress), daemon=True)
        reader.start()
        try:
            child.wait(BENCH_S_MAX)
        except subprocess.TimeoutExpired:
            said.append(f"did not end within {BENCH_S_MAX} s")
        finally:
            interrupt(child)
        reader.join(1)
        took_s = time.monotonic() - begun
        if child.returncode or not written.exists():
            said.append(f"bench.{name} ended with {child.returncode} and {'' if written.exists() else 'no '}rows")
            return Outcome(name, name, [], took_s, "\n".join(said))
        document = json.loads(written.read_text())
        return Outcome(name, document["title"], [Row(**row) for row in document["rows"]], took_s)


def listen(child: subprocess.Popen[str], name: str, said: deque[str], progress: Progress) -> None:
    """Show what the child says it does, keep the rest for the case that it breaks."""
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith(DOING):
            progress.update(progress.task_ids[0], description=f"{name}: {line[len(DOING) :].strip()}")
        else:
            said.append(line.rstrip())


def interrupt(child: subprocess.Popen[str]) -> None:
    """As Ctrl-C would, so that it clears up what it started."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(60)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def median(outcomes: list[Outcome]) -> Outcome:
    """Several runs of one benchmark as one: of each figure the middle one, with the peers and bounds of its own run."""
    for outcome in outcomes:
        if outcome.error:
            return outcome
    first = outcomes[0]
    found = {row.what: [row] for row in first.rows}
    for row in (row for outcome in outcomes[1:] for row in outcome.rows):
        found.setdefault(row.what, []).append(row)
    rows = [sorted(same, key=lambda row: row.figure)[(len(same) - 1) // 2] for same in found.values()]
    return replace(first, rows=rows, took_s=sum(outcome.took_s for outcome in outcomes))


def missed(outcomes: list[Outcome]) -> list[str]:
    """A line for each goal that was missed: what, by how much, what was possible, and how to see it again."""
    return [
        f"{row.what}: {quantity(row.figure, row.unit)}, goal {row.limit}, missed {row.miss:.3g} times"
        f"{f'; bound: {row.bound}' if row.bound else ''} ({row.command})"
        for outcome in outcomes
        for row in outcome.rows
        if row.reached is False
    ]


def sum_up(screen: Console, outcomes: list[Outcome], small: bool) -> None:
    """What is left to do."""
    for outcome in outcomes:
        if outcome.error:
            screen.print(f"[bold red]{outcome.name} broke[/]\n{escape(outcome.error)}\n")
    if small:
        screen.print("Small sizes: goals are not judged.")
        return
    lines, goals = missed(outcomes), sum(row.goal is not None for outcome in outcomes for row in outcome.rows)
    screen.print(f"[bold]goals missed: {len(lines)} of {goals}[/]" if lines else f"No goal of {goals} was missed.")
    listed = Table.grid(padding=(0, 1))
    for line in lines:
        listed.add_row(" [red]✗[/]", escape(line))
    screen.print(listed)


def run_all(screen: Console, chosen: list[str], flags: list[str], times: int) -> list[Outcome]:
    outcomes: list[Outcome] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    for number, name in enumerate(chosen, 1):
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            if not progress.console.is_terminal:
                progress.console.print(f"{number}/{len(chosen)} {name}", highlight=False)
            progress.add_task(name)
            outcome = median([measure(name, flags, progress) for _ in range(times)])
        if outcome.rows:
            print_table(screen, f"{outcome.title}  [{number}/{len(chosen)}, {outcome.took_s:.0f} s]", outcome.rows)
        outcomes.append(outcome)
    return outcomes


def main() -> int:
    known = names()
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures everything that claims to be fast.")
    parser.add_argument("--small", action="store_true", help="small sizes: seconds, to see that everything works")
    parser.add_argument("--peers", action="store_true", help="measure the peers in the same run, where they can be had")
    parser.add_argument("--only", metavar="NAME", action="append", choices=known, help=f"one of {', '.join(known)}")
    parser.add_argument("--times", metavar="N", type=int, default=1, help="run each N times and take the medians")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything to this file as well")
    arguments = parser.parse_args()
    if arguments.times < 1:
        parser.error(f"--times is {arguments.times}: once is the least")
    flags = [flag for flag in ("--small", "--peers") if getattr(arguments, flag[2:])]
    screen, about = console(), machine()
    screen.print(about, style="dim", highlight=False)
    screen.print()
    outcomes = run_all(screen, arguments.only or known, flags, arguments.times)
    if arguments.json:
        benches = [asdict(outcome) for outcome in outcomes]
        document = {"machine": about, "benches": benches, "missed": [] if arguments.small else missed(outcomes)}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    sum_up(screen, outcomes, arguments.small)
    return 1 if any(outcome.error for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
