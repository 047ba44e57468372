"""Puts the doors together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import APIRouter
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from mycelium.base.version import __version__
from mycelium.head.mount import Mounted
from mycelium.serve.http import (
    accounts,
    batches,
    gateways,
    jobs,
    machines,
    models,
    nodes,
    objects,
    reading,
    record,
    site,
)
from mycelium.serve.http.asks import guards
from mycelium.serve.http.ground import Ground, SiteApp
from mycelium.serve.http.shown import router_of
from mycelium.serve.http.wire import install_errors

DESCRIPTION = """One computer out of many machines. Every call but /health wants `Authorization: Bearer TOKEN`.

Errors are `{"error": {"kind", "message", "hint"}}`; the kind says whose move is next."""


# Batches stand before jobs, whose paths would take theirs.
DOORS = (batches, jobs, nodes, accounts, objects, site, record, models, gateways, reading, machines)


def build_app(ground: Ground, house: Mounted | None = None) -> SiteApp:
    """The application over a running head. `house`: whose views have doors; the head's own."""
    house = house or ground.head.core.house
    app = SiteApp(ground, title="Mycelium", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None)
    routers = [*(door.router for door in DOORS), router_of(house)]
    for router in routers:
        app.include_router(router)
    app.who_may = {door: guard.says for door, _, guard in guards(house)}
    _check_doors(routers, app.who_may)
    install_errors(app)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]  # FastAPI's own way to change the document
    return app


def doors_of(routers: Iterable[APIRouter]) -> set[str]:
    """Every method and path that they answer."""
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    return {f"{method} {route.path}" for route in routes for method in route.methods or ()}


def _check_doors(routers: Iterable[APIRouter], who_may: Mapping[str, str]) -> None:
    """Errors: `AssertionError` for a door of which nobody has said who may use it."""
    unsaid = sorted(doors_of(routers) - who_may.keys())
    assert not unsaid, f"nobody says who may use {', '.join(unsaid)}: see serve/http/asks.py"


def _document(app: SiteApp) -> dict[str, Any]:
    """The OpenAPI document, made once. A wrong parameter is answered like all that is refused: never with 422."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        said = {re.sub(r":path}", "}", door): who for door, who in app.who_may.items()}
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                operation["responses"].pop("422", None)
                operation["x-who-may"] = said[f"{method.upper()} {path}"]
        for unused in ("HTTPValidationError", "ValidationError"):
            document.get("components", {}).get("schemas", {}).pop(unused, None)
        app.openapi_schema = document
    return app.openapi_schema
