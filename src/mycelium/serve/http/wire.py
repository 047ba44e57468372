"""How documents come in and go out over HTTP: bounded bodies, msgspec both ways, the six errors in one form."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from mycelium.base.documents import is_object
from mycelium.base.errors import KINDS, Exhausted, Problem, Refused, Unavailable
from mycelium.base.limits import BODY_BYTES_MAX

log = logging.getLogger("mycelium.serve")

ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["kind", "message", "hint"],
            "properties": {
                "kind": {"type": "string", "enum": list(KINDS)},
                "message": {"type": "string"},
                "hint": {"type": "string"},
            },
        }
    },
}

# What any door may answer beside its success, for the OpenAPI document.
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": meaning, "content": {"application/json": {"schema": ERROR_SCHEMA}}}
    for status, meaning in (
        (400, "Refused: can never succeed as written"),
        (401, "Denied: no valid token was shown"),
        (403, "Denied: not allowed to this user"),
        (404, "Missing: no such name"),
        (405, "Refused: this door does not know the method"),
        (409, "Conflict: the world moved, read again"),
        (413, "Refused: larger than is allowed"),
        (429, "Exhausted: a limit is reached"),
        (503, "Unavailable: a part is not answering"),
    )
}


def answer(document: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json")


def problem_answer(problem: Problem, status: int | None = None) -> Response:
    headers: dict[str, str] = {}
    if isinstance(problem, Exhausted | Unavailable):
        headers["retry-after"] = "1"
    if problem.http == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(msgspec.json.encode(problem.body()), status or problem.http, headers, media_type="application/json")


async def read_document(request: Request) -> Any:
    """The JSON of a body. Errors: `Refused` when it is too large or no JSON."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_BYTES_MAX:
            raise Refused(f"the body has more than {BODY_BYTES_MAX} bytes", hint="send less at once")
    try:
        return msgspec.json.decode(bytes(body)) if body else {}
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refused(f"the body is not JSON: {error}") from None


def fields(document: Any, **kinds: type | tuple[type, ...]) -> dict[str, Any]:
    """The named fields of a flat document, each of its kind; what is missing is None. Errors: `Refused`."""
    if not is_object(document):
        raise Refused("the body must be an object", hint=f"its keys: {', '.join(kinds)}")
    unknown = sorted(set(document) - set(kinds))
    if unknown:
        raise Refused(f"{unknown[0][:64]!r} is not known here", hint=f"the keys are: {', '.join(kinds)}")
    for key, kind in kinds.items():
        value = document.get(key)
        if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is int)):
            raise Refused(f"{key} is of the wrong type")
    return {key: document.get(key) for key in kinds}


def stream_events(events: AsyncIterator[tuple[str, Any]]) -> StreamingResponse:
    """Server-sent events: each a name and a document."""

    async def lines() -> AsyncIterator[bytes]:
        async for name, document in events:
            if name:
                yield b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(document))
            else:
                yield b": still here\n\n"  # keeps proxies and clients from giving up on a quiet stream

    return StreamingResponse(
        lines(), media_type="text/event-stream", headers={"cache-control": "no-store", "x-accel-buffering": "no"}
    )


def install_errors(app: FastAPI) -> None:
    """Every failure leaves in the one form; only a bug of ours is a 500, and it is logged."""

    async def on_problem(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return problem_answer(error)

    async def on_invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return problem_answer(Refused(f"{where}: {str(first['msg']).lower()}"))

    async def on_http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        named = {kind.http: kind for kind in KINDS.values()}
        kind = named.get(error.status_code, Refused)
        hint = "/docs lists what there is" if error.status_code in (404, 405) else ""
        answered = problem_answer(kind(str(error.detail).lower(), hint=hint), error.status_code)
        answered.headers.update(error.headers or {})
        return answered

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
