"""What a backend refused, as the client is told it."""

from __future__ import annotations

import msgspec

from mycelium.serve.gateway.errors import of_backend


def backend(status: int, message: str):
    return of_backend(status, msgspec.json.encode({"error": {"message": message, "code": status}}))


def test_what_llama_cpp_cannot_parse_is_the_fault_of_the_request():
    error = backend(500, "Failed to parse tools: Missing tool type")
    assert (error.status, error.kind, error.answered) == (400, "invalid_request_error", False)


def test_a_failure_of_the_model_is_told_apart_from_a_model_that_is_not_there():
    error = backend(500, "out of memory")
    assert (error.status, error.kind, error.code, error.answered) == (503, "server_error", "model_error", True)
