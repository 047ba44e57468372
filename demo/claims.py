"""What the demo claims, and whether it was true."""

from __future__ import annotations

from rich.console import Console


class Claims:
    def __init__(self, console: Console) -> None:
        self._console = console
        self.broken = 0

    def hold(self, claim: str, truth: object, otherwise: object = "") -> None:
        """Print the claim with a mark; `otherwise` says what was found instead."""
        if truth:
            self._console.print(f"  [green]✓[/] {claim}", highlight=False)
            return
        self.broken += 1
        self._console.print(f"  [bold red]✗ NOT TRUE:[/] {claim}", highlight=False)
        if otherwise != "":
            self._console.print(f"    found: {otherwise}", highlight=False, markup=False)
