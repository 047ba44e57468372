"""A short name for the shape of a domain's tables: it differs whenever what a snapshot holds would be read otherwise.

Source: the types as msgspec sees them; names of classes do not matter, names of fields and values of enumerations do.
"""

from __future__ import annotations

import hashlib
from typing import Any

from msgspec import inspect

# What 0.1 wrote into its snapshots, which did not say so themselves.
FIRST_SCHEMAS = {
    "nodes": "23cb780303305770",
    "accounts": "ed9140f117bef009",
    "jobs": "12c8dccb5e187a2b",
    "inference": "7d36d71b13d9c68c",
}


def fingerprint(tables: type) -> str:
    return hashlib.sha256(_shape(inspect.type_info(tables), ()).encode()).hexdigest()[:16]


def _shape(kind: Any, inside: tuple[type, ...]) -> str:
    if isinstance(kind, inspect.StructType):
        if kind.cls in inside:
            return f"^{inside[::-1].index(kind.cls)}"  # of a record that holds its like: so many records up
        deeper = (*inside, kind.cls)
        fields = sorted(f"{field.encode_name}:{_shape(field.type, deeper)}" for field in kind.fields)
        return f"{{{kind.tag or ''}{'[]' if kind.array_like else ''}{','.join(fields)}}}"
    if isinstance(kind, inspect.EnumType):
        return f"<{'|'.join(sorted(str(member.value) for member in kind.cls))}>"
    if isinstance(kind, inspect.UnionType):
        return "|".join(sorted(_shape(one, inside) for one in kind.types))
    if isinstance(kind, inspect.DictType):
        return f"({_shape(kind.key_type, inside)}>{_shape(kind.value_type, inside)})"
    if isinstance(kind, inspect.TupleType):
        return f"({','.join(_shape(one, inside) for one in kind.item_types)})"
    if isinstance(kind, inspect.ListType | inspect.VarTupleType | inspect.SetType | inspect.FrozenSetType):
        return f"[{_shape(kind.item_type, inside)}]"
    return type(kind).__name__.removesuffix("Type").lower()
