"""Whether a value of one type may go where another is expected, over symbolic dimensions.

A kernel's dimension names stand for one number per call; a program's own names are fixed but unknown. Each name is
bound by the first argument that shows it (a numbered constraint), and every later argument must agree.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Sequence

from msgspec import Struct

from mycelium.base.errors import Fault
from mycelium.polymer.schema.types import (
    ANY,
    Anything,
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

_NAME = re.compile(r"[A-Za-z]\w*")
_ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv}


class Bound(Struct, frozen=True):
    """Constraint `number`: the name is `dim`, because `where` says so."""

    number: int
    dim: Dim
    where: str


class Bindings:
    """What each dimension name of a kernel stands for in one call."""

    def __init__(self) -> None:
        self.bounds: dict[str, Bound] = {}

    def meet(self, name: str, dim: Dim, where: str) -> str:
        """Bind `name`, or say why `dim` cannot be what it stands for already."""
        known = self.bounds.get(name)
        if known is None:
            self.bounds[name] = Bound(len(self.bounds) + 1, dim, where)
        elif known.dim != dim and "_" not in (known.dim, dim) and not (_open(known.dim) or _open(dim)):
            return f"{name} is {known.dim} by constraint {known.number} ({where_of(known)}), not {dim}"
        return ""

    def value(self, dim: Dim) -> Dim:
        """The dimension with every bound name replaced; a number as soon as all of them are numbers."""
        if isinstance(dim, int) or dim == "_":
            return dim
        if dim in self.bounds:
            return self.bounds[dim].dim
        names = _NAME.findall(dim)
        if not names or names == [dim]:
            return dim if not self.bounds else "_"
        if any(name not in self.bounds for name in names):
            return "_"
        text = _NAME.sub(lambda match: f"({self.bounds[match[0]].dim})", dim)
        return text if _NAME.search(text) else arithmetic(text)


def where_of(bound: Bound) -> str:
    return f"from {bound.where}"


def _open(dim: Dim) -> bool:
    """An expression that still holds names cannot be compared before the run."""
    return isinstance(dim, str) and _NAME.fullmatch(dim) is None


def arithmetic(text: str) -> Dim:
    """The value of a sum or product of numbers; `_` for anything else."""

    def walk(node: ast.expr) -> int:
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            return _ARITHMETIC[type(node.op)](walk(node.left), walk(node.right))
        raise ValueError(text)

    try:
        return walk(ast.parse(text, mode="eval").body)
    except (ValueError, SyntaxError, ZeroDivisionError, RecursionError):
        return "_"


def mismatch(expected: Type, came: Type, bindings: Bindings, where: str) -> str:
    """Why a value of type `came` cannot go where `expected` stands; empty when it can."""
    match expected, came:
        case (Anything(), _) | (_, Anything()):
            return ""
        case Union(options), _:
            mine = came.options if isinstance(came, Union) else (came,)
            fits = all(any(not mismatch(option, one, bindings, where) for option in options) for one in mine)
            return "" if fits else _differs(expected, came)
        case _, Union(options):  # decided by the value: one option that fits is enough before the run
            fits = any(not mismatch(expected, option, bindings, where) for option in options)
            return "" if fits else _differs(expected, came)
        case Scalar("float"), Scalar("int"):
            return ""
        case Scalar(), Scalar():
            return "" if expected == came else _differs(expected, came)
        case Tensor(), Tensor():
            return _tensor_mismatch(expected, came, bindings, where)
        case (ListOf(item), ListOf(other)):
            inner = mismatch(item, other, bindings, where)
            return inner and f"in the list: {inner}"
        case ListOf(item), Tensor(dtype, dims):
            return mismatch(item, Tensor(dtype, dims[1:]) if dims else ANY, bindings, where) if dims != () else ""
        case TupleOf(items), TupleOf(others) if len(items) == len(others):
            return next(
                (why for a, b in zip(items, others, strict=True) if (why := mismatch(a, b, bindings, where))), ""
            )
        case DictOf(), DictOf():
            return mismatch(expected.key, came.key, bindings, where) or mismatch(
                expected.value, came.value, bindings, where
            )
        case Record(), Record():
            return _record_mismatch(expected, came, bindings, where)
        case _:
            return _differs(expected, came)


def _differs(expected: Type, came: Type) -> str:
    return f"expected {expected}, got {came}"


def _tensor_mismatch(expected: Tensor, came: Tensor, bindings: Bindings, where: str) -> str:
    if expected.dtype != came.dtype and "number" not in (expected.dtype, came.dtype):
        return _differs(expected, came)
    if expected.dims is None or came.dims is None:
        return ""
    if len(expected.dims) != len(came.dims):
        return f"{_differs(expected, came)}: {len(expected.dims)} dimensions, not {len(came.dims)}"
    for want, have in zip(expected.dims, came.dims, strict=True):
        if isinstance(want, str) and _NAME.fullmatch(want) and want != "_":
            why = bindings.meet(want, have, where)
            if why:
                return f"{_differs(expected, came)}: {why}"
            continue
        want = bindings.value(want)
        if want != have and isinstance(want, int) and isinstance(have, int):
            return f"{_differs(expected, came)}: {want} is not {have}"
    return ""


def _record_mismatch(expected: Record, came: Record, bindings: Bindings, where: str) -> str:
    have = dict(came.fields)
    for name, kind in expected.fields:
        if name not in have:
            return f"{_differs(expected, came)}: field {name} is missing"
        why = mismatch(kind, have[name], bindings, where)
        if why:
            return f"field {name}: {why}"
    return ""


def substitute(kind: Type, bindings: Bindings) -> Type:
    """The type with every dimension name replaced by what it stands for."""
    match kind:
        case Tensor(dtype, dims):
            return kind if dims is None else Tensor(dtype, tuple(bindings.value(dim) for dim in dims))
        case ListOf(item):
            return ListOf(substitute(item, bindings))
        case TupleOf(items):
            return TupleOf(tuple(substitute(item, bindings) for item in items))
        case DictOf(key, value):
            return DictOf(substitute(key, bindings), substitute(value, bindings))
        case Record(fields, form):
            return Record(tuple((name, substitute(inner, bindings)) for name, inner in fields), form)
        case Union(options):
            return Union(tuple(substitute(option, bindings) for option in options))
        case _:
            return kind


def spread(params: tuple[Param, ...], count: int) -> tuple[Param, ...] | None:
    """The parameters that `count` arguments meet, a `*rest` repeated as often as needed; None when they do not fit."""
    if params and params[-1].name.startswith("*"):
        rest = params[-1]
        return params[:-1] + (rest,) * (count - len(params) + 1) if count >= len(params) - 1 else None
    return params if len(params) == count else None


def apply(kernel: str, signature: Signature, arguments: Sequence[Type], optional: int = 0) -> tuple[Type, list[Fault]]:
    """The type of calling a kernel on arguments of these types, and everything that is wrong with the call."""
    params = spread(signature.params, len(arguments))
    if params is None and len(signature.params) - optional <= len(arguments) <= len(signature.params):
        params = signature.params[: len(arguments)]
    if params is None:
        wanted = len(signature.params)
        return signature.result, [
            Fault(f"kernel {kernel}", f"takes {wanted} arguments {signature}, got {len(arguments)}")
        ]
    bindings, faults = Bindings(), []
    for number, (param, came) in enumerate(zip(params, arguments, strict=True), 1):
        where = f"argument {number} ({param.name})"
        why = mismatch(param.type, came, bindings, where)
        if why:
            faults.append(Fault(f"kernel {kernel}, {where}", why))
    return substitute(signature.result, bindings), faults
