"""Puts the doors together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

import mycelium
from mycelium.head.loop import Head
from mycelium.serve.http import accounts, jobs, machines, nodes, objects, reading, site
from mycelium.serve.http.wire import install_errors
from mycelium.serve.openai import doors, feed
from mycelium.serve.openai.keeper import Access
from mycelium.store.objects import Objects

DESCRIPTION = """One computer out of many machines. Every call but /health wants `Authorization: Bearer TOKEN`.

Errors are `{"error": {"kind", "message", "hint"}}`; the kind says whose move is next."""


def build_app(
    head: Head,
    objects_: Objects,
    about: dict[str, Any],
    down: Callable[[str, int], None],
    gateway: Access | None = None,
) -> FastAPI:
    """The application over a running head. `about` is what /status says of the site itself."""
    app = FastAPI(
        title="Mycelium", version=mycelium.__version__, description=DESCRIPTION, docs_url=None, redoc_url=None
    )
    app.state.head = head
    app.state.objects = objects_
    app.state.about = about
    app.state.down = down
    app.state.gateway = gateway
    for door in (jobs, nodes, accounts, objects, site, doors, feed, reading):
        app.include_router(door.router)
    app.include_router(machines.router)
    install_errors(app)
    return app
