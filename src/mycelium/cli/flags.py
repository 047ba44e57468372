"""The flags that a command has because a table says so: settings here, keys of a job in jobs/keys.py beside this.

They are added to the signature that typer reads, so that help, completion and the reading of words follow as well.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from mycelium.client import settings
from mycelium.client.table import Setting, of_command


def takes_settings(command: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The command has the settings of the table that name it as flags, and `settings.get` knows what they said."""
    flags = [_flag(setting, command) for setting in of_command(command)]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        def told(**given: Any) -> Any:
            settings.also_told(**{flag.name: given.pop(flag.name) for flag in flags})
            return function(**given)

        return with_flags(told, function, flags)

    return decorate


def with_flags(
    told: Callable[..., Any], function: Callable[..., Any], flags: Sequence[inspect.Parameter]
) -> Callable[..., Any]:
    """`told`, which looks like `function` with these flags before its own options."""
    own = [each for each in inspect.signature(function, eval_str=True).parameters.values() if each.name != "said"]
    arguments = [each for each in own if each.default is each.empty]
    options = [each for each in own if each.default is not each.empty]
    shown = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*arguments, *flags, *options)]
    functools.update_wrapper(told, function)
    told.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]  # what `inspect` looks for
    told.__annotations__ = {each.name: each.annotation for each in shown}
    return told


def _flag(setting: Setting, command: str) -> inspect.Parameter:
    switch = setting.kind.switch
    option = typer.Option(
        *((setting.flags,) if switch else ()),
        metavar=None if switch else setting.metavar,
        help=setting.help(command),
        parser=None if switch else setting.kind.read,
    )
    annotation = Annotated[bool | None if switch else Any, option]
    return inspect.Parameter(setting.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
