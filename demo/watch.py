"""Shows an array while it runs: how far it is, and what each node does. Plain lines where there is no terminal."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mycelium.client.site import Client

LOOK_S = 0.1
PLAIN_EVERY_S = 2.0
COLORS = {"up": "green", "suspect": "yellow", "lost": "red"}


class Watch:
    """`look` reads the site, `show` draws what was read; `until_ended` does both again and again."""

    def __init__(self, console: Console, client: Client, job: str, names: list[str]) -> None:
        self._console = console
        self._client = client
        self._job = job
        self._names = names
        self._begun = time.monotonic()
        self._said = 0.0
        self.found: dict[str, Any] = {}
        self.nodes: list[dict[str, Any]] = []
        self._live = Live(console=console, refresh_per_second=12, transient=True)

    def __enter__(self) -> Watch:
        self._live.__enter__()
        return self

    def __exit__(self, *what: Any) -> None:
        self._live.__exit__(*what)

    def look(self) -> float:
        """Read the site anew; which share of the tasks has ended."""
        time.sleep(LOOK_S)
        self.found = self._client.get(f"/jobs/{self._job}")
        self.nodes = sorted(self._client.get("/nodes")["nodes"], key=lambda node: node["id"])
        self._show()
        return self.ended / self.size

    @property
    def size(self) -> int:
        return self.found["counts"]["size"]

    @property
    def ended(self) -> int:
        counts = self.found["counts"]
        return counts["done"] + counts["failed"] + counts["cancelled"]

    def running_on(self, node: str) -> list[str]:
        return [task["id"] for task in self.found["tasks"] if task["state"] == "running" and node in task["nodes"]]

    def _show(self) -> None:
        if self._console.is_terminal:
            self._live.update(Group(self._bar(), self._table()))
        elif time.monotonic() - self._said > PLAIN_EVERY_S:
            self._said = time.monotonic()
            self._console.print(f"  {self.ended}/{self.size} tasks done")

    def _bar(self) -> Table:
        row = Table.grid(padding=(0, 1))
        took_s = time.monotonic() - self._begun
        row.add_row("  ", ProgressBar(self.size, self.ended, width=50), f"{self.ended}/{self.size}", f"{took_s:.0f}s")
        return row

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for node in self.nodes:
            running = [self._names[int(task.rsplit(".", 1)[1])] for task in self.running_on(node["id"])]
            state = Text(node["state"], COLORS.get(node["state"], ""))
            table.add_row("  ", node["id"], state, Text(", ".join(running), "cyan"))
        return table
