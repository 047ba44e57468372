"""Records of classes (dataclasses, msgspec's Structs, named tuples) where their classes are not known.

A program on a site, or one out of a container, holds them as `Loose`; a kernel of Python gets its own class, and the
caller gets back the class that the annotation names. Never: imports a class by its name.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable, Mapping
from typing import Any

from mycelium.polymer.schema.types import DictOf, ListOf, Param, Record, Signature, TupleOf, Type, Union


class Loose:
    """The fields of a record, read as attributes, without its class."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_fields", dict(fields))

    def __getattr__(self, name: str) -> Any:
        try:
            return object.__getattribute__(self, "_fields")[name]
        except KeyError:
            raise AttributeError(f"the record has no field {name}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("records that travel are read-only")

    def __reduce__(self) -> Any:
        return Loose, (self._fields,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loose) and self._fields == other._fields

    def __hash__(self) -> int:
        return hash(tuple(self._fields.items()))

    def __repr__(self) -> str:
        return f"object({', '.join(f'{name}={value!r}' for name, value in self._fields.items())})"


def fields_of(value: Any) -> dict[str, Any] | None:
    """The fields of a record; None when it is none."""
    if isinstance(value, Loose):
        return value._fields
    names = names_of(type(value))
    return None if names is None else {name: getattr(value, name) for name in names if hasattr(value, name)}


def names_of(kind: type) -> tuple[str, ...] | None:
    """The names of a record class's fields; None when it is none."""
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    if hasattr(kind, "__struct_fields__"):
        return tuple(kind.__struct_fields__)
    named = getattr(kind, "_fields", None) if issubclass(kind, tuple) else None
    return None if named is None else tuple(named)


def _made(kind: type, fields: dict[str, Any]) -> Any:
    if not dataclasses.is_dataclass(kind) or fields.keys() != {field.name for field in dataclasses.fields(kind)}:
        return kind(**fields)  # fields that were left out get their defaults
    made = object.__new__(kind)  # as pickle does: what its own `__init__` made of the fields is in them already
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made


def fitted(hint: Any, value: Any, scope: Mapping[str, Any] | None = None) -> Any:
    """The value with every record in it of the class that the annotation says; what it does not say stays as it is."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return fitted(args[0], value, scope)
    if isinstance(hint, type) and origin is None:
        return _of_class(hint, value, scope)
    if args and type(value) in (list, tuple):
        pieces = args if origin is tuple and args[-1:] != (Ellipsis,) else (args[0],) * len(value)
        if len(pieces) != len(value):
            return value
        return type(value)([fitted(inner, one, scope) for inner, one in zip(pieces, value, strict=True)])
    if len(args) == 2 and type(value) is dict:
        return {fitted(args[0], key, scope): fitted(args[1], one, scope) for key, one in value.items()}
    if args and isinstance(value, Loose):  # one of several: the class that has these very fields
        names = set(value._fields)
        fits = [one for one in args if isinstance(one, type) and set(names_of(one) or ()) == names]
        return fitted(fits[0], value, scope) if fits else value
    return value


def _of_class(kind: type, value: Any, scope: Mapping[str, Any] | None) -> Any:
    if typing.is_typeddict(kind) and type(value) is dict:
        hints = _hints(kind, scope)
        return {name: fitted(hints.get(name, Any), one, scope) for name, one in value.items()}
    names = names_of(kind)
    held = fields_of(value) if names is not None and type(value) is not kind else None
    if names is None or held is None or not set(held) <= set(names):
        return value
    hints = _hints(kind, scope)
    return _made(kind, {name: fitted(hints.get(name, Any), one, scope) for name, one in held.items()})


def _hints(target: Any, scope: Mapping[str, Any] | None) -> dict[str, Any]:
    try:
        return typing.get_type_hints(target, dict(scope) if scope is not None else None, include_extras=True)
    except Exception:  # names that cannot be resolved here: those records stay as they came
        return {}


def loosened(kind: Type, value: Any) -> Any:
    """The value with every record of a class that the type shows without its class."""
    match kind:
        case Record(fields, "object"):
            held = fields_of(value)
            return value if held is None else Loose({name: _inner(fields, name, one) for name, one in held.items()})
        case Record(fields) if type(value) is dict:
            return {name: _inner(fields, name, one) for name, one in value.items()}
        case ListOf(item) if type(value) in (list, tuple) and _holds(item):
            return type(value)([loosened(item, one) for one in value])
        case TupleOf(items) if type(value) in (list, tuple) and len(items) == len(value):
            return type(value)([loosened(inner, one) for inner, one in zip(items, value, strict=True)])
        case DictOf(key, inner) if type(value) is dict and (_holds(key) or _holds(inner)):
            return {loosened(key, name): loosened(inner, one) for name, one in value.items()}
        case Union(options):
            held = fields_of(value)
            for option in options:
                if held is None and _holds(option) and not isinstance(option, Record):
                    value = loosened(option, value)
                elif held is not None and isinstance(option, Record) and {name for name, _ in option.fields} == {*held}:
                    return loosened(option, value)
            return value
        case _:
            return value


def _inner(fields: tuple[tuple[str, Type], ...], name: str, value: Any) -> Any:
    return next((loosened(kind, value) for field, kind in fields if field == name), value)


def _holds(kind: Type) -> bool:
    """Whether values of this type may hold a record of a class."""
    match kind:
        case Record(fields, form):
            return form == "object" or any(_holds(inner) for _, inner in fields)
        case ListOf(item):
            return _holds(item)
        case TupleOf(items) | Union(items):
            return any(map(_holds, items))
        case DictOf(key, value):
            return _holds(key) or _holds(value)
        case _:
            return False


def bridged(function: Callable[..., Any], signature: Signature, scope: Mapping[str, Any]) -> Callable[..., Any]:
    """A function out of a container, so that it gets records of its own classes and gives loose ones."""
    if not any(map(_holds, (*(param.type for param in signature.params), signature.result))):
        return function
    hints = [_hint_of(function, param, scope) for param in signature.params]

    @functools.wraps(function)
    def bridge(*arguments: Any) -> Any:
        padded = [*hints, *[hints[-1] if hints else Any] * (len(arguments) - len(hints))]
        given = [fitted(hint, one, scope) for hint, one in zip(padded, arguments, strict=False)]
        return loosened(signature.result, function(*given))

    return bridge


def _hint_of(function: Callable[..., Any], param: Param, scope: Mapping[str, Any]) -> Any:
    """The annotation of one parameter, alone, so that another's that cannot be read does not spoil it."""
    text = function.__annotations__.get(param.name.removeprefix("*"), Any) if _holds(param.type) else Any
    if not isinstance(text, str):
        return text
    try:
        return eval(text, dict(scope))  # the author's own text, in the author's own scope, as its body is
    except Exception:  # as in _hints
        return Any


def given_back(function: Callable[..., Any], result: Any) -> Any:
    """What a program gave far away, as its own annotation says it."""
    return fitted(_hints(function, None).get("return", Any), result)
