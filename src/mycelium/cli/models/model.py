"""`myc model …`: the models that the site has."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from mycelium.base.errors import Missing, Refused
from mycelium.base.units import format_size
from mycelium.cli.options import Json
from mycelium.client import show
from mycelium.client.fetch import fetch
from mycelium.client.site import Client, connect
from mycelium.inference.catalogue import KNOWN, ModelSource, source
from mycelium.inference.model import ModelKind

PIECE_BYTES = 1 << 20
MAGIC = b"GGUF"  # how such a file begins
Name = Annotated[str, typer.Argument(metavar="MODEL", help="Such as smollm2-135m.")]


def pull(
    what: Annotated[
        str, typer.Argument(metavar="MODEL", help=f"{', '.join(KNOWN)}, file:PATH, or hf://OWNER/REPOSITORY/FILE.")
    ],
    name: Annotated[str, typer.Option(metavar="TEXT", help="What the site calls it.")] = "",
    embedding: Annotated[bool, typer.Option("--embedding", help="It makes embeddings.")] = False,
    json: Json = False,
) -> None:
    """Fetch a model to the site. What the site has already is not fetched again."""
    client = connect()
    wanted = source(what, name, ModelKind.EMBEDDING if embedding else None)
    found = bring(client, wanted)
    if json:
        show.document(found)
        return
    show.say(f"{found['name']}: {format_size(found['size_bytes'])}, {found['kind']}, from {found['source']}")
    show.note(f"serve it with: myc serve {found['name']}")


def bring(client: Client, wanted: ModelSource) -> Any:
    """The site's record of a model that is there now. Errors: `Refused` for other bytes than those that are known."""
    digest = wanted.digest
    if not digest or client.post("/objects/missing", {"digests": [digest]}, key="again")["missing"]:
        with tempfile.TemporaryDirectory(prefix="myc-model-") as scratch, FetchProgress(wanted.name) as progress:
            path = fetch(wanted, Path(scratch), progress.tell)
            check_form(path, wanted.name)
            digest = _digest(path)
            if wanted.digest and digest != wanted.digest:
                raise Refused(
                    f"the weights of {wanted.name} are {digest[:12]}…, not {wanted.digest[:12]}…",
                    hint="whoever handed them out changed them, or they broke on the way",
                )
            _send(client, digest, path, progress)
    asked = {"name": wanted.name, "digest": digest, "kind": wanted.kind.value, "source": wanted.place}
    return client.post("/models", asked)


def check_form(path: Path, name: str) -> None:
    """Replicas read GGUF only. Errors: `Refused`."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise Refused(f"the weights of {name} are not GGUF", hint="llama.cpp's convert_hf_to_gguf.py makes it")


def _digest(path: Path) -> str:
    from blake3 import blake3

    hashed = blake3()
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            hashed.update(piece)
    return hashed.hexdigest()


def _send(client: Client, digest: str, path: Path, progress: FetchProgress) -> None:
    size_bytes = path.stat().st_size

    def pieces() -> Any:
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
                progress.tell(file.tell(), size_bytes, "sending to the site")

    headers = {"Content-Type": "application/octet-stream"}
    client.send("PUT", f"/objects/{digest}", pieces, headers, again=True)


class FetchProgress:
    """One line on a terminal that says how far it is."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._said = 0.0
        self._begun = time.monotonic()

    def __enter__(self) -> FetchProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._said and sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")

    def tell(self, so_far: int, total: int, doing: str = "fetching") -> None:
        now = time.monotonic()
        if not sys.stderr.isatty() or now - self._said < 0.1:
            return
        self._said = now
        size = f" {format_size(total)}" if total else ""
        share = f": {100 * so_far // total}%" if total and so_far else ""
        sys.stderr.write(f"\r\x1b[K{self._name}: {doing}{size}{share}  {now - self._begun:.0f}s")
        sys.stderr.flush()


def list_models(json: Json = False) -> None:
    """List the models that the site has, and those that it knows how to get."""
    found = connect().get("/models")
    if json:
        show.document(found)
        return
    here = {model["name"] for model in found["models"]}
    rows = [
        (show.clean(m["name"]), m["kind"], format_size(m["size_bytes"]), show.clean(m["by"]), show.clean(m["source"]))
        for m in found["models"]
    ]
    rows += [
        (known.name, known.kind.value, format_size(known.size_bytes), "-", f"not here; myc model pull {known.name}")
        for known in KNOWN.values()
        if known.name not in here
    ]
    show.table(("MODEL", "KIND", "SIZE", "BY", "FROM"), rows, right=("SIZE",))


def show_model(name: Name, json: Json = False) -> None:
    """Everything about one model, and what serves it."""
    client = connect()
    models = {model["name"]: model for model in client.get("/models")["models"]}
    if name not in models:
        raise Missing(f"no model is called {name!r}", hint="`myc model list` lists them")
    found = models[name]
    served = [one["name"] for one in client.get("/deployments")["deployments"] if one["model"] == name]
    if json:
        show.document({**found, "served_as": served})
        return
    show.facts(
        (
            ("model", show.clean(found["name"])),
            ("kind", found["kind"]),
            ("size", format_size(found["size_bytes"])),
            ("hash", found["digest"]),
            ("from", show.clean(found["source"])),
            ("added", f"{show.local(found['added'])} by {show.clean(found['by'])}"),
            ("served as", ", ".join(served)),
        )
    )


def remove(name: Name, json: Json = False) -> None:
    """Take a model out of the catalogue. Its bytes go when nothing needs them any more."""
    found = connect().delete(f"/models/{name}")
    if json:
        show.document(found)
        return
    show.say(f"{name} is removed")
