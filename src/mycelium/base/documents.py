"""What a reader of JSON has in hand: asked by these, a value is known to the type checker as well.

Never: reads anything itself.
"""

from __future__ import annotations

from typing import Any, TypeGuard


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Of a value that JSON gave: the keys of an object are texts."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)
