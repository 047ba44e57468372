"""`myc account …` and `myc login`: who may use the site, and which site this machine uses."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mycelium.cli.options import Json
from mycelium.client import settings, show
from mycelium.client.site import Client, connect

Name = Annotated[str, typer.Argument(metavar="NAME", help="A small letter, then a-z, 0-9, dot, dash, underscore.")]


def add(
    name: Name,
    admin: Annotated[bool, typer.Option("--admin", help="It may do everything, without a sandbox too.")] = False,
    operator: Annotated[bool, typer.Option("--operator", help="It may mind nodes, and everybody's jobs.")] = False,
    json: Json = False,
) -> None:
    """Add an account and print its token. The site keeps only a hash of it: it is shown this once."""
    client = connect()
    found = client.post("/accounts", {"name": name, "role": "admin" if admin else "operator" if operator else "user"})
    if json:
        show.document(found)
        return
    _hand_over(client, name, found["token"])


def token(name: Name, json: Json = False) -> None:
    """Give an account a new token and print it, once. The old one ends."""
    client = connect()
    found = client.post(f"/accounts/{name}/token")
    if json:
        show.document(found)
        return
    _hand_over(client, name, found["token"])


def _hand_over(client: Client, name: str, secret: str) -> None:
    show.say(secret)
    show.note(f"this is the token of {name}, shown this once; whoever holds it is {name}")
    show.note(f"{name} types: myc login {client.url} --token -    and pastes it")


def list_accounts(json: Json = False) -> None:
    """List the accounts and what they have used lately."""
    found = connect().get("/accounts")
    if json:
        show.document(found)
        return
    head = ("ACCOUNT", "NAME", "ROLE", "WEIGHT", "USED", "HOLDS", "CREATED")
    rows = [
        (
            account["id"],
            show.clean(account["name"]),
            account["role"],
            str(account["weight"]),
            f"{account['used_cpu_seconds']:.0f} cpu-s",
            f"{account['holds_cpus']:g} cpus",
            show.local(account["created"]),
        )
        for account in found["accounts"]
    ]
    show.table(head, rows, right=("WEIGHT", "USED", "HOLDS"))


def login(
    url: Annotated[str, typer.Argument(metavar="URL", help="Such as http://127.0.0.1:8700.")],
    token: Annotated[str, typer.Option(metavar="TOKEN", help="The token; - reads it from stdin.")] = "-",
    json: Json = False,
) -> None:
    """Use the site at URL from now on. The token is tried, then kept where only you can read it."""
    url = settings.check_url(url)
    secret = settings.check_token(_read_token(url) if token == "-" else token.strip())
    status = Client(url, secret).get("/status")
    settings.keep_login(url, secret)
    if json:
        show.document({"url": url, "site": status["site"], "kept": str(settings.logins_path())})
        return
    show.say(f"logged in at {url}")
    show.note(f"the token is kept in {settings.logins_path()}")


def _read_token(url: str) -> str:
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass(f"token for {url}: ").strip()
    return sys.stdin.readline().strip()
