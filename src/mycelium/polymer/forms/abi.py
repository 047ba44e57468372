"""How values enter and leave a WebAssembly function.

`int` and `bool` are i64, `float` is f64; `bytes` and `str` (UTF-8) are a pointer and a length (i32, i32) into the
memory that the module exports, where the function `alloc(size: i32) -> i32` that it exports as well made room. A
result of `bytes` or `str` is one i64: pointer in the low half, length in the high half.
"""

from __future__ import annotations

from mycelium.base.errors import Refused
from mycelium.polymer.kernel import Kernel
from mycelium.polymer.schema.types import Scalar, Type

_PARAMS = {"int": ("i64",), "bool": ("i64",), "float": ("f64",), "bytes": ("i32", "i32"), "str": ("i32", "i32")}
_RESULTS = {"int": ("i64",), "bool": ("i64",), "float": ("f64",), "bytes": ("i64",), "str": ("i64",), "none": ()}


def wanted(kernel: Kernel) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The WebAssembly signature of a kernel. Errors: `Refused` for types that have no place in one."""
    params = tuple(
        word
        for number, param in enumerate(kernel.signature.params, 1)
        for word in _words(_PARAMS, param.type, f"argument {number} ({param.name})", kernel)
    )
    return params, _words(_RESULTS, kernel.signature.result, "its result", kernel)


def _words(table: dict[str, tuple[str, ...]], kind: Type, where: str, kernel: Kernel) -> tuple[str, ...]:
    if isinstance(kind, Scalar) and kind.name in table:
        return table[kind.name]
    raise Refused(
        f"kernel {kernel.name}, {where}: a wasm form takes bool, int, float, str and bytes, got {kind}",
        hint="encode it as bytes",
    )
