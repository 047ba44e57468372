"""`myc join`: this machine becomes a node of a site, for as long as the command runs."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mycelium.base.errors import Refused
from mycelium.base.home import Home
from mycelium.cli.flags import takes_settings
from mycelium.client import settings, show

if TYPE_CHECKING:
    from mycelium.serve.member import Membership

TOKEN_BYTES_MAX = 16_384  # a token and a certificate


@takes_settings("join")
def join(
    site: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Where the site listens.")],
    token_file: Annotated[
        str, typer.Option(metavar="FILE", help="The site's tokens/join, or a one-time token; - reads it from stdin.")
    ] = "",
    name: Annotated[str, typer.Option(metavar="TEXT", help="What the node is called. [the host's name]")] = "",
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A label that jobs can ask for.")] = None,
) -> None:
    """Make this machine a node of the site. A new machine waits until somebody there approves it.

    Ctrl-C drains the node and leaves when its work has ended; a second one stops its work; a third goes at once. The
    machine keeps its place: `myc join` again, and it has the same node and gets its work back.
    """
    from mycelium.serve import member

    place = settings.home()
    with member.held(place):
        known = Home(place).machine_key.exists()
        token, ca = _token(token_file) if token_file or not known else ("", "")
        tls = member.trust(place, ca)
        url = settings.check_url(site if "://" in site else f"{'https' if tls else 'http'}://{site}")
        mine = member.Membership(url, place, name, settings.get("address") or "", label or [], tls, ca)
        asyncio.run(member.stay(mine, token, JoinNews(), lambda: _token("")[0]))
    show.note("this machine has left the site; `myc join` brings it back")


class JoinNews:
    """Says what has changed for this machine, once."""

    def __init__(self) -> None:
        self.state, self.waits = "", True
        self._away = False

    def first(self, answer: dict[str, Any], member: Membership) -> None:
        self.state, self.waits = str(answer["state"]), bool(answer["waits"])
        show.say(f"this machine is {show.paint(answer['node'], '1')} ({member.name}) at {member.address}")
        if self.waits:
            show.say(f"  it waits for approval: `myc node approve {answer['node']}` on the site's side")
        sys.stdout.flush()

    def draining(self) -> None:
        show.note("draining: Ctrl-C again stops what runs here, a third time goes at once")

    def heard(self, answer: dict[str, Any] | None) -> None:
        if answer is None:
            if not self._away:
                show.note("the site does not answer; what runs here goes on")
            self._away = True
            return
        if self._away:
            show.note("the site answers again")
        self._away = False
        if self.waits and not answer["waits"]:
            show.say(f"{answer['node']} is approved")
        if answer["state"] == "up" != self.state:
            show.say(f"{show.paint('●', '32')} {answer['node']} is up")
        self.state, self.waits = str(answer["state"]), bool(answer["waits"])
        sys.stdout.flush()


def _token(path: str) -> tuple[str, str]:
    """The token, and the certificate of the site's CA where the site speaks TLS. Errors: `Refused`."""
    if not path:
        if not sys.stdin.isatty():
            raise Refused(
                "the site has not let this machine in: a token is needed", hint="give one with --token-file FILE"
            )
        import getpass

        return getpass.getpass("token of the site: ").strip(), ""
    try:
        with open(0 if path == "-" else path, "rb") as file:
            said = file.read(TOKEN_BYTES_MAX + 1)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None
    token, _, ca = said.decode(errors="replace").strip().partition("\n")
    if not token or len(said) > TOKEN_BYTES_MAX or not token.isprintable():
        raise Refused(f"{path} holds no token", hint="it is the site's tokens/join, or what `myc node invite` printed")
    return token.strip(), ca.strip()
