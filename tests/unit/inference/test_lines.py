"""The lines of a batch: what is found in a file, and what is written for each."""

from __future__ import annotations

import json
from typing import Any

from mycelium.base.limits import BATCH_LINES_MAX, BATCH_MISTAKES_MAX
from mycelium.inference.lines import check, result, unrun

URL = "/v1/chat/completions"


def line(custom_id: Any = "a", **change: Any) -> bytes:
    body = {"model": change.pop("model", "m")}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": URL, "body": body, **change}).encode()


def codes(*lines: bytes) -> list[tuple[str, int]]:
    return [(mistake.code, mistake.line) for mistake in check(lines, URL).mistakes]


def test_a_good_file_has_no_mistakes_and_one_model():
    found = check([line("a"), b"", b"  ", line("b")], URL)
    assert (found.total, found.model, found.mistakes) == (2, "m", ())


def test_every_mistake_is_found_and_says_in_which_line():
    assert codes(
        line("a"),
        b"{",
        line("a"),
        line("b", url="/v1/other"),
        line("c", model="n"),
        line("d", method="GET"),
        line(5),
        line("e", body=None),
        line("f", body={"model": "m", "stream": True}),
        b"\xff",
        b"[]",
    ) == [
        ("invalid_json_line", 2),
        ("duplicate_custom_id", 3),
        ("url_mismatch", 4),
        ("model_mismatch", 5),
        ("invalid_method", 6),
        ("missing_required_parameter", 7),
        ("missing_required_parameter", 8),
        ("unsupported_parameter", 9),
        ("invalid_json_line", 10),
        ("invalid_json_line", 11),
    ]


def test_an_empty_file_and_one_that_is_too_long_are_refused():
    assert codes() == [("empty_file", 0)]
    assert codes(*(line(str(number)) for number in range(BATCH_LINES_MAX + 1))) == [
        ("too_many_tasks", BATCH_LINES_MAX + 1)
    ]


def test_who_makes_only_mistakes_is_told_of_enough_of_them():
    assert len(codes(*[b"{"] * 1000)) == BATCH_MISTAKES_MAX


def test_results_are_lines_as_openai_writes_them():
    done = json.loads(result("batch_req_1", "a", 200, "req_1", b'{"x":1}'))
    assert done["response"] == {"status_code": 200, "request_id": "req_1", "body": {"x": 1}}
    left = json.loads(unrun("batch_req_1", "a", "batch_expired", "too late"))
    assert (left["response"], left["error"]["code"]) == (None, "batch_expired")
    assert result("a", "b", 200, "c", b"{}").endswith(b"}\n")
