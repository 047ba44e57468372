"""A typer group that imports a command only when it is called.

`myc --help` and a mistyped command cost the table, not the modules behind it.
"""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from mycelium.cli.coerce import HELP, lighten
from mycelium.cli.command import Command
from mycelium.cli.commands import ALIASES, COMMANDS, GROUPS, HEADINGS


def load(command: Command) -> Any:
    """The click command behind an entry of the table."""
    module, _, function = command.place.partition(":")
    found = getattr(importlib.import_module(module), function)
    if isinstance(found, typer.Typer):
        return _lighten_all(get_command(found))
    alone = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    alone.command(context_settings={"allow_interspersed_args": not command.runs, "help_option_names": HELP})(found)
    return lighten(get_command(alone))


def _lighten_all(command: Any) -> Any:
    for below in getattr(command, "commands", {}).values():
        _lighten_all(below)
    return lighten(command)


class Lazy(TyperGroup):
    """The commands of the table whose names begin with `words`."""

    words = ""

    def list_commands(self, ctx: Any) -> list[str]:
        depth = len(self.words.split())
        inside = [name.split() for name in COMMANDS if name.startswith(self.words)]
        return list(dict.fromkeys(name[depth] for name in inside if len(name) > depth))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        full = f"{self.words}{cmd_name}"
        if full in COMMANDS:
            command = load(COMMANDS[full])
            command.name = cmd_name
            return command
        return group(full) if full in GROUPS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """What `args` begins with, by its name today."""
        asked = f"{self.words}{args[0]}"
        args = [ALIASES.get(asked, asked).removeprefix(self.words), *args[1:]]
        self.commands = dict.fromkeys(self.list_commands(ctx))  # type: ignore[assignment]  # names only, for suggestions
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        if self.words:
            rows = [(name, COMMANDS[self.words + name].says) for name in self.list_commands(ctx)]
            with formatter.section("Commands"):
                formatter.write_dl(rows)
            return
        for heading in HEADINGS:
            rows = [(name, command.says) for name, command in COMMANDS.items() if command.heading == heading]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows, col_max=16)


def group(name: str) -> Any:
    """The group of commands under one first word."""
    cls = type("Group", (Lazy,), {"words": f"{name} "})
    app = typer.Typer(cls=cls, add_completion=False, rich_markup_mode=None, no_args_is_help=True)
    app.callback(help=GROUPS[name], context_settings={"help_option_names": HELP})(_nothing)
    found = lighten(get_command(app))
    found.name = name
    return found


def _nothing() -> None:
    """Groups take no options of their own."""
