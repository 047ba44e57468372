"""Who is asking the gateway, what they may ask, and how much of it."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from mycelium.inference.buckets import Limits
from mycelium.inference.commands import Spent
from mycelium.inference.elsewhere import Elsewhere, Spending
from mycelium.inference.rules import allows
from mycelium.serve.gateway.errors import no_model, too_many
from mycelium.serve.gateway.table import CallerRow, DeploymentRow, GatewayTable
from mycelium.serve.http1.errors import ApiError
from mycelium.serve.http1.exchange import Exchange

HASHES_KEPT = 4_096


class Callers:
    def __init__(self) -> None:
        self._rows: dict[str, CallerRow] = {}
        self._by_key: dict[str, CallerRow] = {}
        self._limits: dict[str, Limits] = {}
        self._elsewhere = Elsewhere()
        self._spending: Spending | None = None  # counted only once another gateway wants to know
        self._hashes: OrderedDict[str, str] = (
            OrderedDict()
        )  # hashing a key anew for each request would be half its cost

    def told(self, table: GatewayTable) -> None:
        self._rows = {row.hash: row for row in table.callers}
        self._by_key = {row.key: row for row in table.callers if row.key}
        for key, limits in list(self._limits.items()):
            row = self._by_key.get(key)
            if row is None or (row.rpm, row.tpm) != (limits.rpm, limits.tpm):
                del self._limits[key]

    def who(self, exchange: Exchange) -> CallerRow:
        """Errors: `ApiError` 401."""
        kind, _, shown = exchange.header("authorization").partition(" ")
        if kind.lower() != "bearer" or not shown.strip():
            raise _unknown("You didn't provide an API key: send the header 'Authorization: Bearer KEY'.")
        row = self._rows.get(self._hash(shown.strip()))
        if row is None:
            raise _unknown("Incorrect API key provided.")
        return row

    def _hash(self, secret: str) -> str:
        found = self._hashes.get(secret)
        if found is None:
            found = hashlib.sha256(secret.encode("latin-1", "replace")).hexdigest()
            if found in self._rows:
                self._hashes[secret] = found
                while len(self._hashes) > HASHES_KEPT:
                    self._hashes.popitem(last=False)
        return found

    def may_ask(self, row: CallerRow, deployment: DeploymentRow | None, name: str) -> DeploymentRow:
        """The deployment, if it is there for this caller; one that is not looks as if there were none."""
        if deployment is None or deployment.leaving or not allows(row.models, name):
            raise no_model(name)
        return deployment

    def take(self, row: CallerRow, tokens: int) -> None:
        """One request and so many tokens of this minute. Errors: `ApiError` 429, with the time to wait."""
        if not row.rpm and not row.tpm:
            return
        now_s = time.monotonic()
        short, wait_s = self._of(row, now_s).ask(tokens, now_s)
        if short:
            limit = row.rpm if short == "requests" else row.tpm
            raise too_many(
                f"Rate limit reached: {limit} {short} per minute. Try again in {wait_s:.1f}s.", wait_s, short
            )
        if self._spending:
            self._spending.add(row.key, 1, min(tokens, row.tpm), now_s)

    def settle(self, row: CallerRow, taken: int, used: int) -> None:
        if row.tpm:
            now_s = time.monotonic()
            self._of(row, now_s).settle(taken, used, now_s)
            if self._spending:
                self._spending.add(row.key, 0, used - min(taken, row.tpm), now_s)

    def spent(self) -> tuple[Spent, ...]:
        """What the other gateways should know."""
        return self._spending.told(time.monotonic()) if self._spending else ()

    def spent_elsewhere(self, told: Mapping[str, Sequence[Spent]]) -> None:
        """What keys have spent at the other gateways: they have so much less here."""
        if told and self._spending is None:
            self._spending = Spending()
        now_s = time.monotonic()
        for one in self._elsewhere.news(told):
            row = self._by_key.get(one.key)
            if row is not None and (row.rpm or row.tpm):
                self._of(row, now_s).charge(one.requests, one.tokens, now_s)

    def _of(self, row: CallerRow, now_s: float) -> Limits:
        found = self._limits.get(row.key)
        if found is None:
            found = self._limits[row.key] = Limits(row.rpm, row.tpm, now_s)
        return found


def _unknown(message: str) -> ApiError:
    return ApiError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})
