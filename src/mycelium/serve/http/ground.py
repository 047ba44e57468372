"""What the doors of a site stand on: one value, built in order when the site starts, and asked by its fields.

Never: looks anything up by name, or changes after the doors are open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, cast

from fastapi import Depends, FastAPI, Request
from msgspec import Struct, field

from mycelium.base.ids import NodeId
from mycelium.engine.seam import Entrance
from mycelium.head.loop import Head
from mycelium.head.retention import LogKeeper
from mycelium.serve.http.programs import Checks
from mycelium.serve.keeper import Access
from mycelium.serve.tls import Authority
from mycelium.store.objects import Objects


class Opened(Struct):
    """What the site needs to let machines in."""

    entrance: Entrance
    site_token: str
    authority: Authority | None = None  # of a site that speaks TLS
    passages: dict[NodeId, str] = field(default_factory=dict)  # where gateways get to replicas, by node


class Ground(Struct, frozen=True):
    """`about` is what /status says of the site itself; `opened` is None for a site of one machine alone."""

    head: Head
    objects: Objects
    about: dict[str, Any]
    down: Callable[[str, int], None]
    gateway: Access
    log_keeper: LogKeeper
    checks: Checks
    opened: Opened | None = None


class SiteApp(FastAPI):
    """The application over a running head."""

    def __init__(self, ground: Ground, **what: Any) -> None:
        super().__init__(**what)
        self.ground = ground
        self.who_may: dict[str, str] = {}  # by door, in words


def the_ground(request: Request) -> Ground:
    return cast("SiteApp", request.app).ground


TheGround = Annotated[Ground, Depends(the_ground)]


def the_head(ground: TheGround) -> Head:
    return ground.head


TheHead = Annotated[Head, Depends(the_head)]
