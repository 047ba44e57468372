"""Who is asking: bearer tokens. The site keeps their hashes only."""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from mycelium.accounts.model import Account
from mycelium.base.errors import Unknown
from mycelium.base.subject import Subject
from mycelium.serve.http.ground import TheHead

_bearer = HTTPBearer(auto_error=False, description="the token of an account: `myc account add` prints it once")


def new_token() -> str:
    return f"myc_{secrets.token_urlsafe(32)}"


def hash_token(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def the_account(
    head: TheHead, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Account:
    """The account whose token came with the request. Errors: `Unknown`."""
    if credentials is None:
        raise Unknown("no token was shown", hint="send the header 'Authorization: Bearer TOKEN'; see `myc login`")
    accounts = head.core.site.accounts
    found = accounts.by_token.get(hash_token(credentials.credentials))
    if found is None:
        raise Unknown(
            "the token is not valid here", hint="ask the site's admin for one, then `myc login URL --token -`"
        )
    return accounts.by_id[found]


def the_subject(account: Annotated[Account, Depends(the_account)]) -> Subject:
    """Who asks, for the guards of what is asked."""
    return account.subject("http")


TheSubject = Annotated[Subject, Depends(the_subject)]
