"""Who is asking: bearer tokens. The site keeps their hashes only."""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from mycelium.accounts.model import Account
from mycelium.base.errors import Denied, Unknown
from mycelium.head.loop import Head

_bearer = HTTPBearer(auto_error=False, description="the token of an account: `myc account add` prints it once")


def new_token() -> str:
    return f"myc_{secrets.token_urlsafe(32)}"


def hash_token(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def the_head(request: Request) -> Head:
    return request.app.state.head


def the_account(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Account:
    """The account whose token came with the request. Errors: `Unknown`."""
    if credentials is None:
        raise Unknown("no token was shown", hint="send the header 'Authorization: Bearer TOKEN'; see `myc login`")
    accounts = the_head(request).core.site.accounts
    found = accounts.by_token.get(hash_token(credentials.credentials))
    if found is None:
        raise Unknown(
            "the token is not valid here", hint="ask the site's admin for one, then `myc login URL --token -`"
        )
    return accounts.by_id[found]


def the_admin(account: Annotated[Account, Depends(the_account)]) -> Account:
    """Errors: `Denied` for anybody else."""
    if not account.admin:
        raise Denied("only an admin may do this")
    return account


TheHead = Annotated[Head, Depends(the_head)]
TheAccount = Annotated[Account, Depends(the_account)]
TheAdmin = Annotated[Account, Depends(the_admin)]
