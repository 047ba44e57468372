"""Errors in OpenAI's form: `{"error": {message, type, param, code}}`, and what each of ours becomes."""

from __future__ import annotations

import msgspec

from mycelium.base.documents import is_object
from mycelium.base.errors import Conflict, Denied, Exhausted, Missing, Problem, Refused, Unavailable, Unknown
from mycelium.inference.asking import Bad
from mycelium.serve.http1.errors import ApiError

BY_KIND: dict[type[Problem], tuple[int, str, str | None]] = {
    Refused: (400, "invalid_request_error", None),
    Unknown: (401, "invalid_request_error", "invalid_api_key"),
    Denied: (403, "permission_error", "permission_denied"),
    Missing: (404, "invalid_request_error", "not_found"),
    Conflict: (409, "invalid_request_error", "conflict"),
    Exhausted: (429, "rate_limit_error", "rate_limit_exceeded"),
    Unavailable: (503, "server_error", "unavailable"),
}


def of_problem(problem: Problem) -> ApiError:
    status, kind, code = BY_KIND.get(type(problem), (400, "invalid_request_error", None))
    message = f"{problem.message} ({problem.hint})" if problem.hint else problem.message
    headers = {"retry-after": "1"} if status in (429, 503) else {}
    return ApiError(status, message, kind, code, headers=headers)


def of_bad(bad: Bad) -> ApiError:
    return ApiError(bad.status, bad.message, code=bad.code, param=bad.param)


def no_model(name: str) -> ApiError:
    return ApiError(
        404,
        f"The model {name[:128]!r} does not exist or you do not have access to it.",
        code="model_not_found",
        param="model",
    )


def too_many(message: str, retry_s: float, kind: str = "requests") -> ApiError:
    headers = {
        "retry-after": str(max(1, -(-int(retry_s * 1000) // 1000))),
        "retry-after-ms": str(int(retry_s * 1000) + 1),
    }
    return ApiError(429, message, kind, "rate_limit_exceeded", headers=headers)


def of_backend(status: int, body: bytes) -> ApiError:
    """What a backend refused, in the one form; what is its own fault is said to be so."""
    try:
        found = msgspec.json.decode(body)
        error = found["error"] if is_object(found) else None
    except (msgspec.DecodeError, KeyError):
        error = None
    said = error if is_object(error) else {}
    message = said.get("message") or (error if isinstance(error, str) else f"the model answered with status {status}")
    code = said.get("code") if isinstance(said.get("code"), str) else None
    # An input to be embedded must fit into one batch of llama.cpp; one that does not it takes for its own fault.
    if said.get("type") == "exceed_context_size_error" or "too large to process" in str(message):
        param = "input" if str(message).startswith("input") else "messages"
        return ApiError(400, str(message), code="context_length_exceeded", param=param)
    if status == 500 and str(message).startswith("Failed to parse "):  # llama.cpp, of what no check of ours found
        status = 400
    if 400 <= status < 500:
        param = said.get("param") if isinstance(said.get("param"), str) else None
        return ApiError(status, str(message), code=code, param=param)
    return ApiError(502 if status < 500 else 503, str(message), "server_error", code or "model_error", answered=True)
