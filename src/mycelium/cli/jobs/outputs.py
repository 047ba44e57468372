"""`myc outputs`: fetch the files that a job kept.

Every byte is checked against its name on the way, and nothing is written outside the directory that was named.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from mycelium.base.units import format_size
from mycelium.cli.options import Json, Task
from mycelium.client import show
from mycelium.client.remote import Remote
from mycelium.client.site import connect


def outputs(
    job: Task,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; made if need be.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace files that are in the way.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Name the files and fetch nothing.")] = False,
    json: Json = False,
) -> None:
    """Fetch the files that matched --outputs, as the attempt that counts left them.

    Those of an array's tasks go into DIR/INDEX/, those of a gang's nodes into DIR/RANK/.
    """
    client = connect()
    answer = client.get(f"/jobs/{job}/outputs")
    found = answer["outputs"]
    if not found:
        show.note(_nothing(job, answer["asked"]))
    source = Remote(client)
    fetched: list[dict[str, Any]] = []
    for one in found:
        into = directory / one["path"] if one["path"] else directory
        files = _list(source, one) if list_ else _fetch(source, one, into, force)
        fetched += [{"path": str(into / path), "size_bytes": size} for path, size in files]
    if json:
        show.document({"outputs": fetched})
        return
    for file in fetched:
        show.say(f"{format_size(file['size_bytes']):>8}  {show.clean(file['path'])}")


def _nothing(job: str, asked: list[str]) -> str:
    if asked:
        return f"{job} has kept no files yet: nothing that has ended well matched {' '.join(asked)}"
    return f"{job} keeps no files: it was submitted without --outputs"


def _list(source: Remote, one: dict[str, Any]) -> list[tuple[str, int]]:
    from mycelium.store.tree import read_tree

    return _files(read_tree(cast("Any", source), one["tree"]))


def _fetch(source: Remote, one: dict[str, Any], into: Path, force: bool) -> list[tuple[str, int]]:
    from mycelium.store.unpack import unpack

    into.parent.mkdir(parents=True, exist_ok=True)
    return _files(unpack(cast("Any", source), one["tree"], into, links_out=False, tell=_tell, replace=force))


def _tell(left_out: str) -> None:
    show.line(show.clean(left_out))


def _files(tree: Any) -> list[tuple[str, int]]:
    return [(entry.path, entry.size_bytes) for entry in tree.entries if entry.kind == "file"]
