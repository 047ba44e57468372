"""From Python annotations to types: builtins, typing, dataclasses, TypedDict, msgspec, jaxtyping and numpy's.

Never: imports numpy, jax or jaxtyping; their annotations are recognised by shape.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable
from typing import Any

from mycelium.base.errors import Fault, refuse
from mycelium.polymer.schema.types import (
    ANY,
    DTYPES,
    NONE,
    DictOf,
    Dim,
    ListOf,
    Param,
    Record,
    Scalar,
    Signature,
    Tensor,
    TupleOf,
    Type,
    Union,
)

_BUILTINS = {bool: "bool", int: "int", float: "float", str: "str", bytes: "bytes"}
_LISTS = {"list", "Sequence", "Iterable", "Collection", "MutableSequence"}
_DICTS = {"dict", "Mapping", "MutableMapping", "defaultdict", "Counter", "OrderedDict"}
_DEPTH_MAX = 32  # records that hold themselves end here, as `any`
_INTEGER = re.compile(r"\d+")


def signature(function: Callable[..., Any], name: str) -> Signature:
    """The signature that `function`'s annotations give; what is not annotated is `any`.

    Errors: `Refused` for parameters that a portable call cannot have (`*args`, `**kwargs`, keyword-only without
    default).
    """
    faults: list[Fault] = []
    params: list[Param] = []
    try:
        shown = inspect.signature(function)
    except (TypeError, ValueError):  # builtins without a signature, such as `max`
        return Signature((Param("*", ANY),), ANY)
    hints = _hints(function)
    for param in shown.parameters.values():
        if param.kind in (param.VAR_KEYWORD, param.KEYWORD_ONLY):
            if param.kind is param.KEYWORD_ONLY and param.default is param.empty:
                faults.append(
                    Fault(
                        f"kernel {name}, argument {param.name}", "keyword-only arguments cannot be passed by position"
                    )
                )
            continue
        star = "*" if param.kind is param.VAR_POSITIONAL else ""
        params.append(Param(star + param.name, of_annotation(hints.get(param.name, Any))))
    refuse(faults)
    return Signature(tuple(params), of_annotation(hints.get("return", Any)))


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    target = function if inspect.isroutine(function) or inspect.isclass(function) else type(function).__call__
    if inspect.isclass(target):
        return {}
    try:
        return typing.get_type_hints(target, include_extras=True)
    except Exception:  # an annotation that names something not importable here must not forbid the call
        return {
            name: hint for name, hint in getattr(target, "__annotations__", {}).items() if not isinstance(hint, str)
        }


def of_annotation(hint: Any, depth: int = 0) -> Type:
    """The type of one annotation; what has no counterpart is `any`."""
    if hint is None or hint is type(None):
        return NONE
    if depth > _DEPTH_MAX:
        return ANY
    if isinstance(hint, type) and hint in _BUILTINS:
        return Scalar(_BUILTINS[hint])
    if hasattr(hint, "dtypes") and hasattr(hint, "dim_str"):
        return _jaxtyping(hint)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        said = next((one for one in hint.__metadata__ if isinstance(one, Tensor)), None)
        return said or of_annotation(args[0], depth + 1)
    if origin in (typing.Union, types.UnionType):
        return Union(tuple(of_annotation(option, depth + 1) for option in args))
    if getattr(origin, "__name__", "") == "ndarray":
        return Tensor(_numpy_dtype(args), None)
    return _container(hint, origin, args, depth)


def _container(hint: Any, origin: Any, args: tuple[Any, ...], depth: int) -> Type:
    kind = origin or hint
    name = getattr(kind, "__name__", "")
    if name == "ndarray":
        return Tensor("number", None)
    if name in _LISTS:
        return ListOf(of_annotation(args[0], depth + 1) if args else ANY)
    if name == "Counter":
        return DictOf(of_annotation(args[0], depth + 1) if args else ANY, Scalar("int"))
    if name in _DICTS:
        return DictOf(*(of_annotation(arg, depth + 1) for arg in args)) if len(args) == 2 else DictOf(ANY, ANY)
    if name == "tuple":
        if len(args) == 2 and args[1] is Ellipsis:
            return ListOf(of_annotation(args[0], depth + 1))
        return TupleOf(tuple(of_annotation(arg, depth + 1) for arg in args)) if args else ListOf(ANY)
    if isinstance(kind, type):
        return _record(kind, depth)
    return ANY


def _record(kind: type, depth: int) -> Type:
    form = "dict" if typing.is_typeddict(kind) else "object"
    if form == "object" and not (
        dataclasses.is_dataclass(kind) or hasattr(kind, "__struct_fields__") or hasattr(kind, "_fields")
    ):
        return ANY
    try:
        hints = typing.get_type_hints(kind)
    except Exception:  # as in _hints: names that cannot be resolved leave the type open
        return ANY
    return Record(tuple((name, of_annotation(hint, depth + 1)) for name, hint in hints.items()), form)


def _jaxtyping(hint: Any) -> Tensor:
    dtypes = [str(dtype) for dtype in hint.dtypes] if not isinstance(hint.dtypes, str | type) else []
    known = sorted({"bool" if dtype == "bool_" else dtype for dtype in dtypes} & set(DTYPES))
    return Tensor(known[0] if len(known) == 1 else "number", dims_of(hint.dim_str))


def dims_of(text: str) -> tuple[Dim, ...] | None:
    """The dimensions of jaxtyping's `"n d 3"`."""
    dims: list[Dim] = []
    for word in text.split():
        if word == "..." or "*" in word[:2]:
            return None
        plain = word.partition("=")[2] or word
        dims.append(int(plain) if _INTEGER.fullmatch(plain) else "_" if plain.startswith(("#", "_", "?")) else plain)
    return tuple(dims)


def _numpy_dtype(args: tuple[Any, ...]) -> str:
    inner = typing.get_args(args[1]) if len(args) == 2 else ()
    name = getattr(inner[0], "__name__", "") if inner else ""
    name = {"bool_": "bool"}.get(name, name)
    return name if name in DTYPES else "number"
