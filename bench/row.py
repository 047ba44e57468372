"""One figure of a benchmark, and how figures are shown: ours, the goal, the peers', the physical bound."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """`goal` is what we set ourselves; `better` says in which direction figures are better."""

    what: str
    figure: float
    unit: str
    goal: float | None = None
    better: str = "more"
    peers: str = ""  # measured in the same run unless it says "published"
    bound: str = ""  # what physics allows on this machine
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if self.goal is None:
            return None
        return self.figure >= self.goal if self.better == "more" else self.figure <= self.goal

    @property
    def verdict(self) -> str:
        if self.reached is None or self.goal is None:
            return ""
        if self.reached:
            return "[green]reached[/]"
        ratio = self.figure / self.goal if self.goal else 0.0
        return f"[red]missed: {ratio:.2f} of it[/]"


def show(title: str, rows: list[Row]) -> None:
    """Print a table of rows."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for heading, justify in (
        ("what", "left"),
        ("figure", "right"),
        ("goal", "right"),
        ("", "left"),
        ("peers", "left"),
        ("bound", "left"),
        ("note", "left"),
    ):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for row in rows:
        goal = "" if row.goal is None else f"{'≥' if row.better == 'more' else '≤'} {_number(row.goal)}"
        table.add_row(row.what, f"{_number(row.figure)} {row.unit}", goal, row.verdict, row.peers, row.bound, row.note)
    Console(width=max(140, Console().width)).print(table)


def _number(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"
