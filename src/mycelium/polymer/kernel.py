"""A kernel: a name, a typed signature and one or more forms of the same pure function.

Live forms hold a function of this process; `forms.seal` turns them into portable ones. A fused kernel is a small
graph of calls that runs as one. Never: runs anything (see `forms`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from mycelium.polymer.schema.types import Signature


class LivePython(Struct, frozen=True, eq=False):
    """A Python function of this process, shipped by reference where it can be imported and by value where not."""

    function: Callable[..., Any]


class LiveXla(Struct, frozen=True, eq=False):
    """A function over arrays that jax can trace."""

    function: Callable[..., Any]


class PythonForm(Struct, frozen=True, tag="python"):
    """Source text that defines `entry` and every global that it needs."""

    source: str
    entry: str


class XlaForm(Struct, frozen=True, tag="xla"):
    """StableHLO as `jax.export` serialises it, lowered for `platforms`."""

    exported: bytes
    platforms: tuple[str, ...]


class WasmForm(Struct, frozen=True, tag="wasm"):
    """A WebAssembly function `entry` over scalars and byte buffers, with the fuel and memory that a call may use."""

    module: bytes
    entry: str
    fuel: int
    memory_bytes: int


class FusedCall(Struct, frozen=True):
    """One call inside a fused kernel: which member, on which values (parameters first, then results of earlier
    steps).
    """

    member: int
    arguments: tuple[int, ...]


class FusedForm(Struct, frozen=True, tag="fused"):
    """Several kernels run as one call; the last step's result is the result."""

    members: tuple[Kernel, ...]
    steps: tuple[FusedCall, ...]


Form = LivePython | LiveXla | PythonForm | XlaForm | WasmForm | FusedForm


class Kernel(Struct, frozen=True):
    """`optional` parameters, counted from the last, may be left out. `retries`: how often a raised error is tried
    again.
    """

    name: str
    signature: Signature
    forms: tuple[Form, ...]
    optional: int = 0
    cache: bool = False
    retries: int = 0

    def form_names(self) -> tuple[str, ...]:
        return tuple(form_name(form) for form in self.forms)


# form: (what it imports, the extra that installs it)
EXTRAS = {"xla": ("jax", "xla"), "wasm": ("wasmtime", "wasm")}


def form_name(form: Form) -> str:
    match form:
        case LivePython() | PythonForm():
            return "python"
        case LiveXla() | XlaForm():
            return "xla"
        case WasmForm():
            return "wasm"
        case FusedForm():
            return "fused"
