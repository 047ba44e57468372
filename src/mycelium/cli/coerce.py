"""Words of the command line become values here, and not in pydantic: typer would import it, which takes 200 ms.

It knows what our commands use (text, whole numbers, paths, flags, lists of text, parsers) and leaves the rest to typer.
A typer that does this in another way never looks at what is set here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace, UnionType
from typing import Any, Union, get_args, get_origin

import typer

HELP = ["-h", "--help"]


def lighten(command: Any) -> Any:
    """The command, with parameters that read their words themselves."""
    for param in (*command.params, command.get_help_option(SimpleNamespace(help_option_names=HELP))):
        read = _reader(param)
        if read is not None:
            param._runtime_param = _Reading(read)
    return command


class _Reading:
    """What typer asks of a parameter's type."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self._read = read

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        many = param.multiple or param.nargs == -1
        if value is None:
            return () if many else None
        try:
            return [self._read(word) for word in value] if many else self._read(value)
        except ValueError as error:
            raise typer.BadParameter(str(error), ctx=ctx, param=param) from None


def _reader(param: Any) -> Callable[[Any], Any] | None:
    descriptor = getattr(param, "type_descriptor", None)
    info = getattr(descriptor, "parameter_info", None)
    if descriptor is None or info is None:
        return None
    if info.parser is not None:
        return info.parser
    kinds = [kind for kind in _kinds(descriptor.annotation) if kind is not type(None)]
    kind = kinds[0] if len(kinds) == 1 else None
    if kind is int:
        return lambda word: _whole(word, info.min, info.max)
    readers: dict[Any, Callable[[Any], Any]] = {str: str, Path: Path, bool: _flag, list[str]: str}
    return readers.get(kind)


def _kinds(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _whole(word: Any, low: float | None, high: float | None) -> int:
    try:
        number = int(word)
    except ValueError:
        raise ValueError(f"{word!r} is not a whole number") from None
    if (low is not None and number < low) or (high is not None and number > high):
        raise ValueError(f"{number} is not from {low} to {high}" if high is not None else f"{number} is below {low}")
    return number


def _flag(word: Any) -> bool:
    if isinstance(word, bool):
        return word
    raise ValueError(f"{word!r} is neither yes nor no")
