"""`/v1/batches`: create, show, list, cancel. The work is done by runner.py."""

from __future__ import annotations

import os
import re
from typing import Any

import msgspec

from mycelium.base.documents import is_object
from mycelium.base.limits import BODY_BYTES_MAX
from mycelium.inference.commands import CancelBatch, CreateBatch
from mycelium.inference.model import Batch, BatchState
from mycelium.inference.rules import ENDPOINTS
from mycelium.serve.gateway.files import Files, page
from mycelium.serve.gateway.link import GatewayLink
from mycelium.serve.gateway.table import CallerRow
from mycelium.serve.http1.errors import ApiError
from mycelium.serve.http1.exchange import Exchange

KEYS = {"input_file_id", "endpoint", "completion_window", "metadata"}
WINDOW_S_MAX = 7 * 86_400
UNITS_S = {"h": 3600, "m": 60, "s": 1}
TIMES = {
    "in_progress_at": BatchState.IN_PROGRESS,
    "finalizing_at": BatchState.FINALIZING,
    "completed_at": BatchState.COMPLETED,
    "failed_at": BatchState.FAILED,
    "expired_at": BatchState.EXPIRED,
    "cancelling_at": BatchState.CANCELLING,
    "cancelled_at": BatchState.CANCELLED,
}


def batch_view(batch: Batch) -> dict[str, Any]:
    errors = None
    if batch.mistakes:
        mistakes = [msgspec.to_builtins(mistake) for mistake in batch.mistakes]
        for mistake in mistakes:
            mistake["line"] = mistake["line"] or None
        errors = {"object": "list", "data": mistakes}
    window_s = (batch.expires_ns - batch.created_ns) // 1_000_000_000
    used = batch.used
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model or None,
        "errors": errors,
        "input_file_id": batch.input_file,
        "completion_window": f"{window_s // 3600}h" if window_s % 3600 == 0 else f"{window_s}s",
        "status": batch.state.value,
        "output_file_id": batch.output_file or None,
        "error_file_id": batch.error_file or None,
        "created_at": batch.created_ns // 1_000_000_000,
        "expires_at": batch.expires_ns // 1_000_000_000,
        **{name: batch.times_ns.get(state.value, 0) // 1_000_000_000 or None for name, state in TIMES.items()},
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "metadata": batch.metadata or None,
        "usage": {
            "input_tokens": used.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": used.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": used.prompt_tokens + used.completion_tokens,
        },
    }


class Batches:
    def __init__(self, link: GatewayLink, files: Files) -> None:
        self._link = link
        self._files = files

    async def create(self, exchange: Exchange, row: CallerRow, name: str) -> None:
        asked = await exchange.read_json(BODY_BYTES_MAX)
        if not is_object(asked):
            raise ApiError(400, "the body must be a JSON object")
        for key in sorted(set(asked) - KEYS):
            raise ApiError(400, f"{key[:64]!r} is not supported here", code="unsupported_parameter", param=key[:64])
        for key in ("input_file_id", "endpoint", "completion_window"):
            if not isinstance(asked.get(key), str):
                raise ApiError(
                    400, f"missing required parameter: {key!r}", code="missing_required_parameter", param=key
                )
        if asked["endpoint"] not in ENDPOINTS:
            raise ApiError(400, f"endpoint must be one of: {', '.join(ENDPOINTS)}", param="endpoint")
        file = await self._files.find(row, asked["input_file_id"])
        if file.purpose != "batch":
            raise ApiError(400, f"{file.id} has the purpose {file.purpose!r}, not 'batch'", param="input_file_id")
        metadata = _metadata(asked.get("metadata"))
        window_s = _window_s(asked["completion_window"])
        batch = f"batch_{os.urandom(12).hex()}"
        await self._link.do(CreateBatch(row.account, batch, row.key, asked["endpoint"], file.id, metadata, window_s))
        await exchange.answer(batch_view(await self.find(row, batch)))

    async def find(self, row: CallerRow, batch: str) -> Batch:
        """Errors: `Missing`, also for what is another account's."""
        return msgspec.convert(await self._link.get(_path(row, batch)), Batch)

    async def show(self, exchange: Exchange, row: CallerRow, name: str) -> None:
        await exchange.answer(batch_view(await self.find(row, name)))

    async def list(self, exchange: Exchange, row: CallerRow, name: str) -> None:
        found = msgspec.convert(await self._link.get(_path(row)), list[Batch])
        await exchange.answer(page([batch_view(batch) for batch in reversed(found)], exchange.query()))

    async def cancel(self, exchange: Exchange, row: CallerRow, name: str) -> None:
        await self._link.do(CancelBatch(row.account, name))
        await exchange.answer(batch_view(await self.find(row, name)))


def _path(row: CallerRow, batch: str = "") -> str:
    known = batch if re.fullmatch(r"batch_[0-9a-f]{1,64}", batch) else "none"
    return f"/gateway/batches?account={row.account}" + (f"&batch={known}" if batch else "")


def _metadata(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    good = is_object(value) and len(value) <= 16
    if not good or any(not isinstance(text, str) or len(key) > 64 or len(text) > 512 for key, text in value.items()):
        raise ApiError(400, "metadata holds at most 16 texts of at most 512 characters", param="metadata")
    return value


def _window_s(text: str) -> int:
    """`24h`, as OpenAI has it; shorter and longer ones are ours."""
    match = re.fullmatch(r"(\d{1,6})([hms])", text)
    window_s = int(match[1]) * UNITS_S[match[2]] if match else 0
    if not 1 <= window_s <= WINDOW_S_MAX:
        raise ApiError(400, "completion_window must be a time such as '24h', at most '168h'", param="completion_window")
    return window_s
