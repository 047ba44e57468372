"""`myc show` and `myc do`: whatever the site has a name for, also what no command of its own knows of."""

from __future__ import annotations

import json as json_
from typing import Annotated, Any

import typer

from mycelium.base.documents import is_list, is_object
from mycelium.base.errors import Refused
from mycelium.cli.options import Json
from mycelium.client import show
from mycelium.client.site import connect

Path = Annotated[str, typer.Argument(metavar="PATH", help="A name of the site's, such as nodes/node-1.")]


def show_path(path: Path, json: Json = False) -> None:
    """Show what the site says under a name: `myc show nodes/node-1`. The names are those of the HTTP API."""
    found = connect().get("/" + path.strip("/"))
    if json:
        show.document(found)
    else:
        _say(found)


def do(
    path: Path,
    values: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="What is asked.")] = None,
    json: Json = False,
) -> None:
    """Ask the site something by its name: `myc do nodes/node-1/drain now=true`."""
    answered = connect().post("/" + path.strip("/"), dict(_pair(word) for word in values or []))
    if json:
        show.document(answered)
    else:
        _say(answered)


def _pair(word: str) -> tuple[str, Any]:
    key, equals, value = word.partition("=")
    if not equals or not key:
        raise Refused(f"{word[:40]!r} is not KEY=VALUE", hint="for example now=true")
    try:
        return key, json_.loads(value)
    except ValueError:
        return key, value


def _say(found: Any) -> None:
    """Lists of records as tables, all else a line a value."""
    lines: list[str] = []
    for name, value in found.items() if is_object(found) else [("", found)]:
        rows = value if is_list(value) else []
        if rows and all(is_object(row) for row in rows):
            heads = list(rows[0])
            show.table(heads, [[_text(row.get(head)) for head in heads] for row in rows])
        else:
            lines.append(f"{name + ': ' if name else ''}{_text(value)}")
    for line in lines:
        show.say(line)


def _text(value: Any) -> str:
    return show.clean(value if isinstance(value, str) else json_.dumps(value, ensure_ascii=False))
