"""`myc ca …`: the site's own authority, which vouches for those who sign programs.

Kept in `$MYC_HOME/ca`: the authority's key (mode 0600), its certificate, those that it issued, and the list of what it
took back.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from mycelium.base.errors import Conflict, Missing
from mycelium.base.files import PRIVATE
from mycelium.base.home import AuthorityFiles, Home
from mycelium.cli.files import read_bytes, write_bytes
from mycelium.cli.options import Json
from mycelium.client import settings, show

app = typer.Typer(help="The authority that vouches for signers of programs.", no_args_is_help=True)

KIND = typer.Option("--kind", metavar="p256|ed25519", help="The kind of key.")


def here() -> AuthorityFiles:
    return Home(settings.home()).ca


def _held() -> tuple[bytes, bytes]:
    if not here().key.exists():
        raise Missing(f"there is no authority in {here().path}", hint="make one with `myc ca init`")
    return read_bytes(here().key), read_bytes(here().certificate)


@app.command()
def init(
    name: Annotated[str, typer.Option(help="What the authority is called. [mycelium site HOSTNAME]")] = "",
    kind: Annotated[str, KIND] = "p256",
    json: Json = False,
) -> None:
    """Make the site's authority, once."""
    import socket

    from mycelium.polymer.container import authority

    name = name or f"mycelium site {socket.gethostname()}"
    if here().key.exists():
        raise Conflict(f"there is an authority in {here().path} already", hint="issue certificates with `myc ca issue`")
    made = authority.create(name, dt.datetime.now(dt.UTC), kind)
    here().path.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_bytes(here().certificate, made.certificate_pem)
    write_bytes(here().key, made.key_pem, PRIVATE)
    if json:
        show.document({"certificate": str(here().certificate)})
    else:
        show.say(str(here().certificate))


@app.command()
def issue(
    name: Annotated[str, typer.Argument(help="Who signs.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where to write key and certificate.")],
    days: Annotated[int, typer.Option(help="How long it is valid.")] = 365,
    kind: Annotated[str, KIND] = "p256",
    json: Json = False,
) -> None:
    """Issue a key and a certificate for one who signs programs; prints the serial number."""
    from mycelium.polymer.container import authority

    for path in (output / "signer.key", output / "signer.pem"):
        if path.exists():
            raise Conflict(f"there is a file {path} already", hint="name another directory: a key is made only once")
    made = authority.issue(*_held(), name, dt.datetime.now(dt.UTC), days=days, kind=kind)
    output.mkdir(parents=True, exist_ok=True)
    here().issued.mkdir(exist_ok=True)
    write_bytes(here().issued / f"{made.serial}.pem", made.certificate_pem)  # first: what is out can be taken back
    write_bytes(output / "signer.key", made.key_pem, PRIVATE)
    write_bytes(output / "signer.pem", made.certificate_pem)
    show.note(f"wrote {output / 'signer.key'} and {output / 'signer.pem'}")
    if json:
        paths = {"key": str(output / "signer.key"), "certificate": str(output / "signer.pem")}
        show.document({"serial": made.serial, **paths})
    else:
        show.say(made.serial)


def _issued() -> dict[str, Path]:
    return {path.stem: path for path in sorted(here().issued.glob("*.pem"))}


@app.command("list")
def list_(json: Json = False) -> None:
    """The certificates that were issued here."""
    from mycelium.polymer.container import authority

    _held()
    revoked = authority.revoked(read_bytes(here().revoked)) if here().revoked.exists() else set[str]()
    rows = [authority.described(read_bytes(path)) for path in _issued().values()]
    if json:
        show.document([{**row, "revoked": row["serial"] in revoked} for row in rows])
        return
    for row in rows:
        state = "  revoked" if row["serial"] in revoked else ""
        show.say(f"{row['serial']}  {show.clean(row['name'])}  until {row['until']}{state}")


@app.command()
def revoke(
    serials: Annotated[list[str], typer.Argument(metavar="SERIAL...", help="As `myc ca issue` printed.")],
    json: Json = False,
) -> None:
    """Take certificates back: what they signed counts no more."""
    from mycelium.polymer.container import authority

    held = here().revoked
    for serial in serials:
        if serial not in _issued():
            raise Missing(f"no certificate {serial:.40} was issued here", hint="`myc ca list` shows all")
    before = read_bytes(held) if held.exists() else None
    write_bytes(held, authority.revoke(*_held(), before, serials, dt.datetime.now(dt.UTC)))
    if json:
        show.document({"revoked": str(held)})
    else:
        show.say(str(held))
