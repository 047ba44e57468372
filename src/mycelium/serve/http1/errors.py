"""An answer that is an error, as OpenAI's API has it: `{"error": {message, type, param, code}}`."""

from __future__ import annotations

from typing import Any

import msgspec


class ApiError(Exception):
    """An answer that is an error."""

    def __init__(
        self,
        status: int,
        message: str,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
        *,
        answered: bool = False,
    ) -> None:
        """`answered`: a backend said so itself, of this request; to ask again may not help."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = headers or {}
        self.answered = answered

    def document(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def body(self) -> bytes:
        return msgspec.json.encode(self.document())


def unavailable(message: str, retry_s: float = 1.0) -> ApiError:
    return ApiError(503, message, "server_error", "unavailable", headers={"retry-after": str(max(1, round(retry_s)))})
