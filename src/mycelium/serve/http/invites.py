"""Tokens that let machines in: the site's own, after which somebody must approve, and one-time tokens.

A one-time token is signed with the site's, so that nothing needs to be kept: which ones were used is in the log.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from mycelium.base.errors import Denied, Unknown
from mycelium.base.limits import INVITE_S
from mycelium.base.units import S_NS

SITE, ONCE = "mycjoin_", "myconce_"


def new_site_token() -> str:
    return SITE + secrets.token_urlsafe(32)


def new_invite(site_token: str, now_ns: int) -> str:
    """A token that lets one machine in, within `INVITE_S`."""
    plain = f"{ONCE}{now_ns // S_NS + INVITE_S}.{secrets.token_hex(8)}"
    return f"{plain}.{_sign(site_token, plain)}"


def check(site_token: str, shown: str, now_ns: int) -> str:
    """The one-time token's own name; empty for the site's token. Errors: `Unknown`, `Denied`."""
    if hmac.compare_digest(shown.encode(), site_token.encode()):
        return ""
    plain, _, signature = shown.rpartition(".")
    known = shown.startswith(ONCE) and hmac.compare_digest(signature.encode(), _sign(site_token, plain).encode())
    if not known:
        raise Unknown(
            "the token does not let machines into this site",
            hint="copy the file tokens/join of the site's home, or ask for `myc node invite`",
        )
    until_s, _, name = plain.removeprefix(ONCE).partition(".")
    if now_ns > int(until_s) * S_NS:
        raise Denied("the one-time token is too old", hint="`myc node invite` makes another")
    return name


def _sign(site_token: str, plain: str) -> str:
    return hmac.new(site_token.encode(), plain.encode(), hashlib.sha256).hexdigest()
