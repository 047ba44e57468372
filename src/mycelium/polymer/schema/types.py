"""The types of Polymer, as values, and their text form.

A dimension is a number, a name that stands for one number (`n`), an expression over names (`n + 1`) or `_` for any.
`Tensor.dims` is None where even the number of dimensions is open (`float32[...]`).
"""

from __future__ import annotations

from msgspec import Struct

SCALARS = ("bool", "int", "float", "str", "bytes", "none")
DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
    "number",  # any of them: where an annotation leaves the dtype open
)

Dim = int | str


class Scalar(Struct, frozen=True, tag="scalar"):
    name: str

    def __str__(self) -> str:
        return self.name


class Tensor(Struct, frozen=True, tag="tensor"):
    dtype: str
    dims: tuple[Dim, ...] | None

    def __str__(self) -> str:
        return f"{self.dtype}[{'...' if self.dims is None else ', '.join(map(str, self.dims))}]"


class ListOf(Struct, frozen=True, tag="list"):
    item: Type

    def __str__(self) -> str:
        return f"list[{self.item}]"


class TupleOf(Struct, frozen=True, tag="tuple"):
    items: tuple[Type, ...]

    def __str__(self) -> str:
        return f"tuple[{', '.join(map(str, self.items))}]"


class DictOf(Struct, frozen=True, tag="dict"):
    key: Type
    value: Type

    def __str__(self) -> str:
        return f"dict[{self.key}, {self.value}]"


class Record(Struct, frozen=True, tag="record"):
    """Named fields; `form` says how Python holds it: `dict` (a TypedDict or JSON) or `object` (attributes)."""

    fields: tuple[tuple[str, Type], ...]
    form: str = "dict"

    def __str__(self) -> str:
        inside = ", ".join(f"{name}: {kind}" for name, kind in self.fields)
        return f"{{{inside}}}" if self.form == "dict" else f"object{{{inside}}}"


class Union(Struct, frozen=True, tag="union"):
    options: tuple[Type, ...]

    def __str__(self) -> str:
        return " | ".join(map(str, self.options))


class Anything(Struct, frozen=True, tag="any"):
    """Where an annotation is missing: checked by nobody, carried by pools, refused in containers of tensor kernels."""

    def __str__(self) -> str:
        return "any"


Type = Scalar | Tensor | ListOf | TupleOf | DictOf | Record | Union | Anything

ANY = Anything()
BOOL, INT, FLOAT, STR, BYTES, NONE = (Scalar(name) for name in SCALARS)


class Param(Struct, frozen=True):
    name: str
    type: Type

    def __str__(self) -> str:
        return f"{self.name}: {self.type}"


class Signature(Struct, frozen=True):
    params: tuple[Param, ...]
    result: Type

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.params))}) -> {self.result}"


def element(sequence: Type) -> Type | None:
    """The type of one element of what `map`, `reduce` and `scan` walk over; None when it cannot be walked over."""
    match sequence:
        case ListOf(item):
            return item
        case Tensor(dtype, dims):
            return ANY if dims is None else Tensor(dtype, dims[1:]) if dims else None
        case Anything():
            return ANY
        case _:
            return None
