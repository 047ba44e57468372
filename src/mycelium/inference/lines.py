"""The lines of a batch: whether a file of them can be worked on, and what their results look like.

Every mistake of a file is found before any is reported, up to a bound.
Never: opens a file, or makes up an id.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import msgspec
from msgspec import Struct

from mycelium.base.limits import BATCH_LINES_MAX, BATCH_MISTAKES_MAX, COMPLETION_BYTES_MAX
from mycelium.inference.model import Mistake

CUSTOM_ID_LENGTH_MAX = 512


class BatchLine(Struct, frozen=True):
    """One request of a batch."""

    custom_id: str
    body: dict[str, Any]


class Checked(Struct, frozen=True):
    """What was found in a file. `model` is the one that all lines ask."""

    total: int
    model: str
    mistakes: tuple[Mistake, ...]


def check(lines: Iterable[bytes], endpoint: str) -> Checked:
    """Look at every line of an input file. Empty lines count for nothing."""
    mistakes: list[Mistake] = []
    seen: set[str] = set()
    total, model = 0, ""
    for number, raw in enumerate(lines, 1):
        if not raw.strip():
            continue
        total += 1
        if total > BATCH_LINES_MAX:
            mistakes.append(Mistake("too_many_tasks", number, f"The file has more than {BATCH_LINES_MAX} requests."))
            break
        found = read(raw, endpoint)
        if isinstance(found, Mistake):
            mistakes.append(msgspec.structs.replace(found, line=number))
        else:
            asked = str(found.body.get("model"))
            model = model or asked
            if found.custom_id in seen:
                said = f"The custom_id {found.custom_id[:64]!r} is not unique."
                mistakes.append(Mistake("duplicate_custom_id", number, said, "custom_id"))
            elif asked != model:
                said = f"All requests of a batch must ask the same model: {model[:64]!r}, not {asked[:64]!r}."
                mistakes.append(Mistake("model_mismatch", number, said, "body.model"))
            seen.add(found.custom_id)
        if len(mistakes) >= BATCH_MISTAKES_MAX:
            break
    if not total:
        mistakes.append(Mistake("empty_file", 0, "The file holds no request."))
    return Checked(total, model, tuple(mistakes))


def read(raw: bytes, endpoint: str) -> BatchLine | Mistake:
    """One line, or what is wrong with it."""
    if len(raw) > COMPLETION_BYTES_MAX:
        return Mistake("invalid_json_line", 0, f"The line has more than {COMPLETION_BYTES_MAX} bytes.")
    try:
        document = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Mistake("invalid_json_line", 0, "This line is not parseable as valid JSON.")
    if not isinstance(document, dict):
        return Mistake("invalid_json_line", 0, "This line is not a JSON object.")
    found = cast("dict[str, Any]", document)
    custom_id, body = found.get("custom_id"), found.get("body")
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= CUSTOM_ID_LENGTH_MAX:
        return Mistake("missing_required_parameter", 0, "Each request must have a custom_id, a text.", "custom_id")
    if found.get("method") != "POST":
        return Mistake("invalid_method", 0, "The method of a request must be POST.", "method")
    if found.get("url") != endpoint:
        said = f"The URL of a request must be the batch's endpoint, {endpoint}."
        return Mistake("url_mismatch", 0, said, "url")
    if not isinstance(body, dict) or not isinstance(cast("dict[str, Any]", body).get("model"), str):
        return Mistake("missing_required_parameter", 0, "Each request must have a body with a model.", "body")
    if cast("dict[str, Any]", body).get("stream"):
        return Mistake("unsupported_parameter", 0, "A request of a batch cannot be streamed.", "body.stream")
    return BatchLine(custom_id, cast("dict[str, Any]", body))


def result(name: str, custom_id: str, status: int, request: str, body: bytes) -> bytes:
    """A line of the output or the error file: what the model answered, or refused with."""
    response = {"status_code": status, "request_id": request, "body": msgspec.Raw(body)}
    document = {"id": name, "custom_id": custom_id, "response": response, "error": None}
    return msgspec.json.encode(document) + b"\n"


def unrun(name: str, custom_id: str, code: str, message: str) -> bytes:
    """A line of the error file for a request that no model was asked."""
    error = {"code": code, "message": message}
    return msgspec.json.encode({"id": name, "custom_id": custom_id, "response": None, "error": error}) + b"\n"
