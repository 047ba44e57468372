"""The HTTP API against its own OpenAPI document, and against bodies that no document would think of."""

from __future__ import annotations

import os
from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

from mycelium.base.errors import KINDS
from mycelium.head.domains import mounted
from mycelium.serve.http.app import build_app
from tests.live.site import LiveSite

QUIET: list[HealthCheck] = [*HealthCheck.__members__.values()]
EXAMPLES = int(os.environ.get("MYC_API_EXAMPLES", "25"))  # for each operation; `make soak` raises it


# The document is that of an application without a site: only its doors matter here.
DOCUMENT = build_app(cast("Any", None), mounted()).openapi()
OPERATIONS = [
    (path, method)
    for path, operations in DOCUMENT["paths"].items()
    for method in operations
    if path != "/down"  # the site would obey it
]
STREAMS = ("/events", "/jobs/{job}/logs")


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_no_request_is_answered_with_a_5xx(shared_site: LiveSite, path: str, method: str) -> None:
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    schema.config.update(base_url=str(shared_site.http.base_url))
    headers = {"authorization": shared_site.http.headers["authorization"]}

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        suppress_health_check=QUIET,
        derandomize=True,
    )
    @given(
        case=schema[path][method].as_strategy(generation_mode=GenerationMode.POSITIVE) | _negative(schema, path, method)
    )
    def check(case: schemathesis.Case) -> None:
        if path in STREAMS:
            case.query = {**(case.query or {}), "follow": False}  # one that goes on for ever is right, and no test
        response = case.call(headers=headers, timeout=30)
        assert response.status_code < 500, response.text
        assert str(response.status_code) in DOCUMENT["paths"][path][method]["responses"], response.text
        if response.status_code >= 400:
            error = response.json()["error"]
            assert error["kind"] in KINDS
            assert error["message"]

    check()


def _negative(schema: Any, path: str, method: str) -> Any:
    """Requests that the document forbids; an operation that takes nothing forbids nothing."""
    operation = schema[path][method]
    takes = list(operation.iter_parameters()) or operation.body
    mode = GenerationMode.NEGATIVE if takes else GenerationMode.POSITIVE
    return operation.as_strategy(generation_mode=mode)


BODIES = {
    "nothing": b"",
    "no json": b"{",
    "not unicode": b"\xff\xfe{}",
    "deep": b"[" * 100_000,
    "a list": b"[1, 2]",
    "a number": b"1e400",
    "null": b"null",
    "wrong types": b'{"command": {"a": 1}, "cpus": [], "env": 3, "array": {}, "after": 5, "nodes": true}',
    "huge numbers": b'{"command": ["true"], "cpus": 1e308, "memory": 99999999999999999999, "time": 1e99}',
    "lone surrogate": b'{"command": ["\\ud800"]}',
    "zero byte": b'{"command": ["a\\u0000b"]}',
    "too many jobs": b'{"jobs": [' + b",".join([b'{"command": ["true"]}'] * 1001) + b"]}",
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("path", ["/jobs", "/jobs/dry-run", "/accounts", "/objects/missing", "/nodes/node-1/drain"])
def test_a_broken_body_is_refused_in_the_one_form(shared_site: LiveSite, path: str, name: str) -> None:
    response = shared_site.http.post(path, content=BODIES[name])
    assert response.status_code < 500
    if response.status_code >= 400:
        assert set(response.json()["error"]) >= {"kind", "message", "hint"}


def test_a_body_without_end_is_cut_off_at_its_bound(shared_site: LiveSite) -> None:
    response = shared_site.http.post("/jobs", content=b'{"command": ["' + b"x" * (9 << 20) + b'"]}')
    assert (response.status_code, response.json()["error"]["kind"]) == (400, "refused")


def test_every_operation_is_documented_with_a_summary(shared_site: LiveSite) -> None:
    document = shared_site.get("/openapi.json")
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len(operations) > 20
    assert all(operation.get("summary") for operation in operations)
    assert shared_site.http.get("/docs").status_code == 200
