"""A progress bar for long runs, on a terminal. It appears only when a run takes long enough for one to wonder."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mycelium.polymer.runtime.dataflow import Run


class Bar:
    """Called ten times a second with the run while it goes on."""

    def __init__(self, clock: Callable[[], float], after_s: float) -> None:
        self.clock, self.after_s = clock, after_s
        self.begun = clock()
        self.shown: Any = None

    def __call__(self, run: Run) -> None:
        if self.shown is None:
            if self.clock() - self.begun < self.after_s:
                return
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self.shown = Progress(*columns, console=Console(stderr=True), transient=True)
            self.shown.start()
            self.task = self.shown.add_task(run.graph.name, total=None)
        done, total = run.progress()
        self.shown.update(self.task, completed=done, total=total)

    def close(self) -> None:
        if self.shown is not None:
            self.shown.stop()
