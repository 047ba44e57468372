"""The doors that follow from the domains: a path for each of their views, and one for each command that names a door.

A domain that is mounted has them without a line here; what needs more than a document in and out has a room of its own.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import Response

from mycelium.base.documents import is_object
from mycelium.base.domain import Rule, Show
from mycelium.base.errors import Refused
from mycelium.base.subject import Subject
from mycelium.head.loop import Head
from mycelium.head.mount import Mounted
from mycelium.serve.http.auth import TheSubject
from mycelium.serve.http.ground import TheHead
from mycelium.serve.http.wire import ERRORS, answer, read_document

ARGUMENT = re.compile(r"\{(\w+)\}")


def router_of(house: Mounted) -> APIRouter:
    router = APIRouter(responses=ERRORS)
    for path, show in house.shows.items():
        router.get(f"/{path}", summary=show.says)(_looks(path, show))
    for command, rule in house.rules.items():
        if rule.door:
            router.post(f"/{rule.door}", summary=inspect.getdoc(command))(_asks(command, rule))
    return router


def _looks(path: str, show: Show) -> Callable[..., Any]:
    async def look(request: Request, head: TheHead, subject: TheSubject) -> Response:
        show.guard.check(subject, head.core.view, request.path_params)
        return answer(show.view(head.core.view, subject, head.clock.now_ns(), **request.path_params))

    return _with_arguments(look, path)


def _asks(command: type[Any], rule: Rule) -> Callable[..., Any]:
    entered = {"account", "by"}  # the head enters them: nobody says in whose name he asks

    async def ask(request: Request, head: TheHead, subject: TheSubject) -> Response:
        document = await read_document(request)
        if not is_object(document) or entered & document.keys():
            raise Refused(f"the body must be an object with fields of {command.__name__}")
        try:
            wanted: Any = msgspec.convert({**_blank(command, subject), **document, **request.path_params}, command)
        except msgspec.ValidationError as error:
            raise Refused(str(error)) from None
        return answer({"answer": await _put(head, wanted, subject)})

    def _blank(command: type[Any], subject: Subject) -> dict[str, Any]:
        names = {field.name for field in msgspec.structs.fields(command)} & entered
        return dict.fromkeys(names, "")

    return _with_arguments(ask, rule.door)


async def _put(head: Head, command: Any, subject: Subject) -> Any:
    return await head.ask(command, subject)


def _with_arguments(handler: Callable[..., Any], path: str) -> Callable[..., Any]:
    """Say the words in braces to FastAPI, which documents what a signature names."""
    known = inspect.signature(handler, eval_str=True)
    named = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=str) for name in ARGUMENT.findall(path)]
    names = [parameter.name for parameter in named]

    async def handle(**arguments: Any) -> Response:
        for name in names:
            arguments.pop(name)
        return await handler(**arguments)

    handle.__signature__ = known.replace(  # type: ignore[attr-defined]
        parameters=[
            *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in known.parameters.values()),
            *named,
        ]
    )
    return handle
