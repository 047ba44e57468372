"""One figure of a benchmark, and how figures are shown: ours, the goal, the peers', the physical bound."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

JSON_VARIABLE = "BENCH_JSON"  # the file that `python -m bench` wants the rows of a benchmark in
WIDTH = 100
DETAILS = ("peers", "bound", "note")


@dataclass(frozen=True)
class Row:
    """`goal` is what we set ourselves; `better` says in which direction figures are better."""

    what: str
    figure: float
    unit: str
    goal: float | None = None
    better: str = "more"
    peers: str = ""  # measured in the same run unless it says "published" or "noted"
    bound: str = ""  # what physics allows on this machine
    note: str = ""
    command: str = ""  # what repeats it; filled in when shown

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if self.goal is None:
            return None
        return self.figure >= self.goal if self.better == "more" else self.figure <= self.goal

    @property
    def limit(self) -> str:
        """The goal in a few signs."""
        if self.goal is None:
            return ""
        return f"{'≥' if self.better == 'more' else '≤'} {quantity(self.goal, self.unit)}"

    @property
    def miss(self) -> float:
        """How many times the figure is worse than its goal; 0 where the goal is reached or there is none."""
        if self.reached is not False or self.goal is None:
            return 0.0
        low, high = sorted((self.figure, self.goal))
        return high / low if low > 0 else float("inf")


def quantity(figure: float, unit: str) -> str:
    """A number of readable length with its unit."""
    if unit == "s" and abs(figure) < 0.1:
        figure, unit = figure * 1000, "ms"
    number = f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"
    return f"{number}{unit}" if unit.startswith("/") else f"{number} {unit}"


def show(title: str, rows: list[Row]) -> None:
    """Print the rows, and write them to the file that `python -m bench` asked for."""
    command = repeating_command()
    rows = [row if row.command else replace(row, command=command) for row in rows]
    if where := os.environ.get(JSON_VARIABLE):
        Path(where).write_text(json.dumps({"title": title, "rows": [asdict(row) for row in rows]}))
    print_table(console(), title, rows)


def console() -> Console:
    """The terminal, or a file as wide as one that holds a line of a table."""
    return Console() if sys.stdout.isatty() else Console(width=WIDTH)


def repeating_command() -> str:
    """The command that runs this process again."""
    spec = sys.modules["__main__"].__spec__
    words = ["python", "-m", spec.name] if spec else ["python", *sys.argv[:1]]
    return " ".join([*words, *sys.argv[1:]])


def print_table(screen: Console, title: str, rows: list[Row]) -> None:
    """Figures one below the other; what is to be said about a figure stands below the table, by its number."""
    table = Table(title=f"[bold]{escape(title)}[/]", title_justify="left", header_style="dim", box=None, pad_edge=False)
    table.add_column("", justify="right", style="dim")
    table.add_column("what", overflow="fold")
    table.add_column("figure", justify="right", no_wrap=True, style="bold")
    table.add_column("goal", no_wrap=True)
    for number, row in enumerate(rows, 1):
        table.add_row(str(number), escape(row.what), quantity(row.figure, row.unit), goal_cell(row))
    screen.print(table)
    for number, row in enumerate(rows, 1):
        details = [f"[dim]{name}[/] {escape(getattr(row, name))}" for name in DETAILS if getattr(row, name)]
        if details:
            line = Table.grid(padding=(0, 1))
            line.add_column(justify="right", style="dim", width=2)
            line.add_column()
            line.add_row(str(number), " [dim]·[/] ".join(details))
            screen.print(line)
    for command in dict.fromkeys(row.command for row in rows if row.command):
        screen.print(Padding(f"[dim]again:[/] {escape(command)}", (0, 0, 1, 3)))


def goal_cell(row: Row) -> str:
    if row.goal is None:
        return ""
    return f"[green]{row.limit} ✓[/]" if row.reached else f"[red]{row.limit} ✗ {row.miss:.3g} times[/]"
