"""From JSON to values: arrays where tensors are expected, tuples where tuples are, numbers as they are."""

from __future__ import annotations

import base64
from typing import Any

from mycelium.base.errors import Refused
from mycelium.polymer.schema.records import Loose
from mycelium.polymer.schema.types import DictOf, ListOf, Record, Scalar, Tensor, TupleOf, Type


def from_json(kind: Type | None, value: Any, where: str) -> Any:
    """The value that `kind` means by this JSON. What does not fit is left for the check of inputs to name."""
    match kind:
        case Tensor(dtype, _):
            import numpy

            try:
                return numpy.asarray(value, None if dtype == "number" else dtype)
            except (ValueError, TypeError, OverflowError) as error:
                raise Refused(f"{where}: {error} (expected {kind})") from None
        case Scalar("bytes") if isinstance(value, str):
            try:
                return base64.b64decode(value, validate=True)
            except ValueError:
                raise Refused(f"{where}: bytes are written in base64 or given as @FILE") from None
        case ListOf(item) if isinstance(value, list):
            return [from_json(item, one, f"{where}[{at}]") for at, one in enumerate(value)]
        case TupleOf(items) if isinstance(value, list) and len(items) == len(value):
            return tuple(from_json(inner, one, where) for inner, one in zip(items, value, strict=True))
        case DictOf(_, inner) if isinstance(value, dict):
            return {key: from_json(inner, one, where) for key, one in value.items()}
        case Record(fields, form) if isinstance(value, dict):
            kinds = dict(fields)
            held = {key: from_json(kinds.get(key), one, f"{where}.{key}") for key, one in value.items()}
            return Loose(held) if form == "object" else held
        case _:
            return value
