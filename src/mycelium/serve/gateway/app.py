"""The doors of the gateway: `/v1/…` as OpenAI has them, and `/health`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mycelium.base.errors import Problem
from mycelium.inference.asking import PATHS
from mycelium.inference.rules import allows
from mycelium.serve.gateway import errors
from mycelium.serve.gateway.gateway import Gateway
from mycelium.serve.http1.errors import ApiError
from mycelium.serve.http1.exchange import Exchange, Left

log = logging.getLogger("mycelium.gateway")


class App:
    """What answers a request. Errors: `Left`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, exchange: Exchange) -> None:
        try:
            await self._serve(exchange)
        except (Left, asyncio.CancelledError):
            raise
        except ApiError as error:
            await exchange.fail(error)
        except Problem as problem:
            await exchange.fail(errors.of_problem(problem))
        except Exception:  # the top of a request
            log.exception("%s %s", exchange.method, exchange.path)
            await exchange.fail(ApiError(500, "the gateway has failed", "server_error", "internal_error"))

    async def _serve(self, exchange: Exchange) -> None:
        path, method = exchange.path.rstrip("/") or "/", exchange.method
        exchange.path = path
        if path in PATHS:
            _only(exchange, "POST")
            await self._gateway.completions.serve(exchange)
        elif path == "/health":
            await exchange.answer({"ok": True})
        elif path == "/v1/models" or path.startswith("/v1/models/"):
            _only(exchange, "GET")
            await self._models(exchange, path.removeprefix("/v1/models").lstrip("/"))
        elif path == "/v1/files" or path.startswith("/v1/files/"):
            await self._named(exchange, path, "/v1/files", FILES)
        elif path == "/v1/batches" or path.startswith("/v1/batches/"):
            await self._named(exchange, path, "/v1/batches", BATCHES)
        else:
            raise ApiError(404, f"Unknown request URL: {method} {path[:128]}.", code="unknown_url")

    async def _named(self, exchange: Exchange, path: str, root: str, doors: Mapping[tuple[str, str], Door]) -> None:
        name, _, rest = path.removeprefix(root).lstrip("/").partition("/")
        shape = "/".join(part for part in ("{id}" if name else "", rest) if part)
        door = doors.get((exchange.method, shape))
        if door is None:
            known = any(other == shape for _, other in doors)
            raise ApiError(
                405 if known else 404, f"Unknown request URL: {exchange.method} {path[:128]}.", code="unknown_url"
            )
        row = self._gateway.callers.who(exchange)
        await door(self._gateway, exchange, row, name)

    async def _models(self, exchange: Exchange, name: str) -> None:
        row = self._gateway.callers.who(exchange)
        rows = self._gateway.fleet.deployments
        shown = [
            {"id": found.name, "object": "model", "created": found.changed_s, "owned_by": found.by}
            for found in rows.values()
            if allows(row.models, found.name) and not found.leaving
        ]
        if not name:
            await exchange.answer({"object": "list", "data": shown})
            return
        one = next((found for found in shown if found["id"] == name), None)
        if one is None:
            raise errors.no_model(name)
        await exchange.answer(one)


Door = Callable[[Gateway, Exchange, Any, str], Awaitable[None]]
# By method and by what of the path comes after the root.
FILES: dict[tuple[str, str], Door] = {
    ("POST", ""): lambda gateway, exchange, row, name: gateway.files.create(exchange, row, name),
    ("GET", ""): lambda gateway, exchange, row, name: gateway.files.list(exchange, row, name),
    ("GET", "{id}"): lambda gateway, exchange, row, name: gateway.files.show(exchange, row, name),
    ("DELETE", "{id}"): lambda gateway, exchange, row, name: gateway.files.delete(exchange, row, name),
    ("GET", "{id}/content"): lambda gateway, exchange, row, name: gateway.files.content(exchange, row, name),
}
BATCHES: dict[tuple[str, str], Door] = {
    ("POST", ""): lambda gateway, exchange, row, name: gateway.batches.create(exchange, row, name),
    ("GET", ""): lambda gateway, exchange, row, name: gateway.batches.list(exchange, row, name),
    ("GET", "{id}"): lambda gateway, exchange, row, name: gateway.batches.show(exchange, row, name),
    ("POST", "{id}/cancel"): lambda gateway, exchange, row, name: gateway.batches.cancel(exchange, row, name),
}


def _only(exchange: Exchange, method: str) -> None:
    if exchange.method != method:
        raise ApiError(
            405, f"{exchange.path} takes {method} only", code="method_not_allowed", headers={"allow": method}
        )
