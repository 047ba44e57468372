"""`myc key …`: who may ask the gateway, and how much."""

from __future__ import annotations

from typing import Annotated

import typer

from mycelium.cli.options import Json
from mycelium.client import show
from mycelium.client.site import connect


def create(
    name: Annotated[str, typer.Option(metavar="TEXT", help="What listings call it.")],
    rpm: Annotated[int, typer.Option(metavar="N", help="Requests a minute; 0 means no limit.")] = 0,
    tpm: Annotated[int, typer.Option(metavar="N", help="Tokens a minute; 0 means no limit.")] = 0,
    models: Annotated[str, typer.Option(metavar="PATTERNS", help="Such as 'smollm2*,llama-*'; all by default.")] = "",
    json: Json = False,
) -> None:
    """Make a key and print it. The site keeps only a hash of it: it is shown this once."""
    client = connect()
    patterns = [pattern.strip() for pattern in models.split(",") if pattern.strip()]
    found = client.post("/keys", {"name": name, "rpm": rpm, "tpm": tpm, "models": patterns})
    if json:
        show.document(found)
        return
    show.say(found["key"])
    show.note(f"this is {found['id']} ({show.clean(name)}), shown this once; what is used with it is charged to you")


def list_keys(json: Json = False) -> None:
    """List the keys, their limits, and what was used with them."""
    found = connect().get("/keys")
    if json:
        show.document(found)
        return
    rows = [
        (
            key["id"],
            show.clean(key["name"]),
            key["account"],
            str(key["rpm"] or "-"),
            str(key["tpm"] or "-"),
            show.clean(",".join(key["models"]) or "all"),
            f"{key['used']['requests']:,}",
            f"{key['used']['tokens']:,}",
        )
        for key in found["keys"]
    ]
    head = ("KEY", "NAME", "ACCOUNT", "RPM", "TPM", "MODELS", "REQUESTS", "TOKENS")
    show.table(head, rows, right=("RPM", "TPM", "REQUESTS", "TOKENS"))


def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its id or its name.")],
    json: Json = False,
) -> None:
    """End a key. Requests with it are refused from now on."""
    found = connect().delete(f"/keys/{key}")
    if json:
        show.document(found)
        return
    show.say(f"{found['revoked']} is revoked")
