"""The doors to accounts. A token is made here, answered once, and kept as a hash."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from mycelium.accounts.model import Role
from mycelium.accounts.rules import AddAccount, ReplaceToken
from mycelium.base.errors import Refused
from mycelium.head import views
from mycelium.serve.http.auth import TheSubject, hash_token, new_token
from mycelium.serve.http.ground import TheHead
from mycelium.serve.http.schema import flat
from mycelium.serve.http.wire import ERRORS, answer, fields, read_document

router = APIRouter(tags=["accounts"], responses=ERRORS)

ROLES = [role.value for role in Role]
ADD_BODY = flat(
    ["name"],
    name={"type": "string", "pattern": "^[a-z][a-z0-9._-]{0,31}$"},
    role={"type": "string", "enum": ROLES},
    weight={"type": "integer", "minimum": 1, "maximum": 1000},
)


@router.get("/accounts", summary="List the accounts")
async def list_accounts(head: TheHead, subject: TheSubject) -> Response:
    site, now_ns = head.core.site, head.clock.now_ns()
    return answer({"accounts": [views.account_view(site, name, now_ns) for name in site.accounts.by_id]})


@router.get("/accounts/me", summary="Show the account whose token this is")
async def me(head: TheHead, subject: TheSubject) -> Response:
    return answer(views.account_view(head.core.site, subject.account, head.clock.now_ns()))


@router.post("/accounts", status_code=201, summary="Add an account", openapi_extra={"requestBody": ADD_BODY})
async def add(request: Request, head: TheHead, subject: TheSubject) -> Response:
    """Answers with the token: it is shown this once and cannot be had again."""
    asked = fields(await read_document(request), name=str, role=str, weight=int)
    if asked["role"] not in (None, *ROLES):
        raise Refused(f"{asked['role'][:32]!r} is not a role", hint=f"one of: {', '.join(ROLES)}")
    token = new_token()
    role = Role(asked["role"] or "user")
    weight = 1 if asked["weight"] is None else asked["weight"]
    added = await head.ask(AddAccount(asked["name"] or "", role, hash_token(token), weight=weight), subject)
    return answer({**views.account_view(head.core.site, added, head.clock.now_ns()), "token": token}, 201)


@router.post("/accounts/{name}/token", summary="Replace an account's token")
async def replace_token(name: str, head: TheHead, subject: TheSubject) -> Response:
    """The old token is void at once. The new one is shown this once."""
    token = new_token()
    changed = await head.ask(ReplaceToken(name, hash_token(token)), subject)
    return answer({**views.account_view(head.core.site, changed, head.clock.now_ns()), "token": token})
