"""The type of a value, and whether a value is of a type. Checked at the edges of a program, not per element:

of a long list of scalars every element's class is looked at (one pass in C), of other lists the first element.
"""

from __future__ import annotations

from typing import Any

from mycelium.base.errors import Fault
from mycelium.polymer.schema.types import (
    ANY,
    NONE,
    Anything,
    DictOf,
    ListOf,
    Record,
    Scalar,
    Tensor,
    TupleOf,
    Type,
    Union,
)
from mycelium.polymer.schema.unify import Bindings, mismatch

_CLASSES: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "str": (str,),
    "bytes": (bytes, bytearray, memoryview),
    "none": (type(None),),
}
_NAMES = {bool: "bool", int: "int", float: "float", str: "str", bytes: "bytes"}


def type_of(value: Any) -> Type:
    """The type of a value, of containers by their first element."""
    name = _NAMES.get(type(value))
    if name is not None:
        return Scalar(name)
    if value is None:
        return NONE
    if is_array(value):
        return Tensor(str(value.dtype), tuple(int(size) for size in value.shape))
    if isinstance(value, list):
        return ListOf(type_of(value[0]) if value and len({type(item) for item in value[:100]}) == 1 else ANY)
    if isinstance(value, tuple):
        return TupleOf(tuple(type_of(item) for item in value))
    if isinstance(value, dict):
        if not value:
            return DictOf(ANY, ANY)
        key = next(iter(value))
        return DictOf(type_of(key), type_of(value[key]))
    return ANY


def is_array(value: Any) -> bool:
    """Anything that carries a dtype and a shape: numpy's arrays and scalars, jax's arrays."""
    return hasattr(value, "dtype") and hasattr(value, "shape")


def check(kind: Type, value: Any, where: str, bindings: Bindings) -> list[Fault]:
    """Everything that is wrong with giving `value` where `kind` is expected."""
    match kind:
        case Anything():
            return []
        case Scalar(name):
            good = isinstance(value, _CLASSES[name]) and (name == "bool" or not isinstance(value, bool))
            return [] if good else [_fault(where, kind, value)]
        case Tensor():
            if not is_array(value):
                return [_fault(where, kind, value)]
            why = mismatch(kind, type_of(value), bindings, where)
            return [Fault(where, why)] if why else []
        case ListOf(item):
            return _check_list(item, kind, value, where, bindings)
        case TupleOf(items):
            if not isinstance(value, tuple | list) or len(value) != len(items):
                return [_fault(where, kind, value)]
            return [
                fault
                for at, (inner, one) in enumerate(zip(items, value, strict=True))
                for fault in check(inner, one, f"{where}[{at}]", bindings)
            ]
        case DictOf(key, inner):
            if not isinstance(value, dict):
                return [_fault(where, kind, value)]
            first = next(iter(value), None)
            return [
                *(check(key, first, f"{where}: key {first!r:.40}", bindings) if value else []),
                *(check(inner, value[first], f"{where}[{first!r:.40}]", bindings) if value else []),
            ]
        case Record(fields, form):
            return _check_record(fields, form, value, where, bindings)
        case Union(options):
            fits = any(not check(option, value, where, bindings) for option in options)
            return [] if fits else [_fault(where, kind, value)]


def _fault(where: str, kind: Type, value: Any) -> Fault:
    shown = type_of(value)
    came = type(value).__name__ if shown == ANY else str(shown)
    return Fault(
        where,
        f"expected {kind}, got {came} {value!r:.60}" if isinstance(shown, Scalar) else f"expected {kind}, got {came}",
    )


def _check_list(item: Type, kind: Type, value: Any, where: str, bindings: Bindings) -> list[Fault]:
    if is_array(value) and value.ndim:
        inner = Tensor(str(value.dtype), tuple(value.shape[1:]))
        if isinstance(item, Scalar):
            wanted = {"bool": "b", "int": "iu", "float": "fiu"}.get(item.name, "")
            return [] if value.ndim == 1 and value.dtype.kind in wanted else [_fault(where, kind, value)]
        why = mismatch(item, inner, bindings, where)
        return [Fault(where, why)] if why else []
    if not isinstance(value, list | tuple | range):
        return [_fault(where, kind, value)]
    if isinstance(item, Scalar):
        allowed = _CLASSES[item.name]
        odd = {
            cls
            for cls in set(map(type, value))
            if not issubclass(cls, allowed) or (cls is bool) != (item.name == "bool")
        }
        if not odd:
            return []
        at = next(index for index, one in enumerate(value) if type(one) in odd)
        return [_fault(f"{where}[{at}]", item, value[at])]
    return check(item, value[0], f"{where}[0]", bindings) if len(value) else []


def _check_record(
    fields: tuple[tuple[str, Type], ...], form: str, value: Any, where: str, bindings: Bindings
) -> list[Fault]:
    faults: list[Fault] = []
    for name, kind in fields:
        if form == "dict" and isinstance(value, dict):
            held, inner = name in value, value.get(name)
        else:
            held, inner = hasattr(value, name), getattr(value, name, None)
        if not held:
            faults.append(Fault(where, f"expected a record with field {name}, got {type(value).__name__}"))
        else:
            faults += check(kind, inner, f"{where}.{name}", bindings)
    return faults
