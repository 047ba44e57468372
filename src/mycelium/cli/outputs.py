"""`myc outputs`: fetch the files that a job kept.

Every byte is checked against its name on the way, and nothing is written outside the directory that was named.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Annotated, Any, BinaryIO, cast

import typer

from mycelium.base import limits
from mycelium.base.errors import Unavailable
from mycelium.base.ids import Digest
from mycelium.base.units import format_size
from mycelium.cli import show
from mycelium.cli.client import Client, connect
from mycelium.cli.options import Json, Task

IN_MEMORY_BYTES = 8 << 20


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


class Remote:
    """The objects of the site, read over HTTP: what unpacking asks of a store, and nothing more.

    Unpacking asks for the size of an object and then for its bytes: they are fetched once and kept until the next.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._digest = ""
        self._bytes: IO[bytes] | None = None
        self._size_bytes = 0

    def missing(self, digests: Iterable[Digest]) -> list[Digest]:
        """Not asked beforehand: what is missing is found missing when it is fetched, and a question costs as much."""
        return []

    def size(self, digest: Digest) -> int:
        self._fetch(digest)
        return self._size_bytes

    def read(self, digest: Digest, bytes_max: int = limits.OBJECT_READ_BYTES_MAX) -> bytes:
        return self.open(digest).read(bytes_max)

    def open(self, digest: Digest) -> BinaryIO:
        kept = self._fetch(digest)
        kept.seek(0)
        self._digest = ""  # whoever opened it closes it
        return cast("BinaryIO", kept)

    def _fetch(self, digest: Digest) -> IO[bytes]:
        if self._digest == digest and self._bytes is not None:
            return self._bytes
        from blake3 import blake3

        response = self._client.download(f"/objects/{digest}")
        kept = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115 - kept until the next object
        hasher = blake3()
        while chunk := response.read(1 << 18):
            hasher.update(chunk)
            kept.write(chunk)
        if hasher.hexdigest() != digest:
            raise Unavailable(f"object {digest[:12]} arrived altered", hint="try again")
        self._size_bytes = kept.tell()
        kept.seek(0)
        self._digest, self._bytes = digest, kept
        return kept
