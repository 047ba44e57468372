"""Puts the doors together."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from mycelium.base.version import __version__
from mycelium.head.mount import Mounted
from mycelium.serve.http import accounts, jobs, machines, nodes, objects, reading, record, site
from mycelium.serve.http import batches as batch_jobs
from mycelium.serve.http import gateways as feed
from mycelium.serve.http import models as doors
from mycelium.serve.http.ground import Ground, SiteApp
from mycelium.serve.http.shown import router_of
from mycelium.serve.http.wire import install_errors

DESCRIPTION = """One computer out of many machines. Every call but /health wants `Authorization: Bearer TOKEN`.

Errors are `{"error": {"kind", "message", "hint"}}`; the kind says whose move is next."""


def build_app(ground: Ground, house: Mounted | None = None) -> SiteApp:
    """The application over a running head. `house`: whose views have doors; the head's own."""
    app = SiteApp(ground, title="Mycelium", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None)
    for door in (batch_jobs, jobs, nodes, accounts, objects, site, record, doors, feed, reading):
        app.include_router(door.router)
    app.include_router(machines.router)
    app.include_router(router_of(house or ground.head.core.house))
    install_errors(app)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]  # FastAPI's own way to change the document
    return app


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, made once. A wrong parameter is answered like all that is refused: never with 422."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
        for unused in ("HTTPValidationError", "ValidationError"):
            document.get("components", {}).get("schemas", {}).pop(unused, None)
        app.openapi_schema = document
    return app.openapi_schema
