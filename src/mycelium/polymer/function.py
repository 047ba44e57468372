"""`@kernel`: a Python function that is also a kernel. Calling it outside a program just calls the function."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Generic, ParamSpec, TypeVar, overload

from mycelium.base.errors import Refused
from mycelium.base.limits import (
    WASM_FUEL_DEFAULT,
    WASM_FUEL_MAX,
    WASM_MEMORY_BYTES_DEFAULT,
    WASM_MEMORY_BYTES_MAX,
)
from mycelium.polymer.kernel import Form, Kernel, LivePython, LiveXla, WasmForm
from mycelium.polymer.program.trace import call, current, traced
from mycelium.polymer.schema.infer import signature as infer_signature
from mycelium.polymer.schema.types import Signature

P = ParamSpec("P")
R = TypeVar("R")

FORMS = ("python", "xla")


class KernelFunction(Generic[P, R]):
    """What `@kernel` leaves in the place of a function: callable as before, and a kernel inside programs and maps."""

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str,
        forms: Sequence[str],
        cache: bool,
        retries: int,
        extra: Sequence[Form],
    ) -> None:
        functools.update_wrapper(self, function)
        unknown = [form for form in forms if form not in FORMS]
        if unknown:
            raise Refused(
                f"kernel {name} asks for form {unknown[0]!r}", hint=f"the forms are {', '.join(FORMS)} and wasm"
            )
        if retries < 0:
            raise Refused(f"kernel {name} asks for {retries} retries; 0 or more")
        self.function = function
        self.extra = tuple(extra)
        live: list[Form] = [{"python": LivePython, "xla": LiveXla}[form](function) for form in forms]
        self.kernel = Kernel(
            name, infer_signature(function, name), (*live, *extra), _optional(function), cache, retries
        )

    @property
    def signature(self) -> Signature:
        return self.kernel.signature

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if current() is not None or traced(args) or (kwargs and traced(kwargs.values())):
            return call(self.kernel, args, kwargs)  # type: ignore[return-value]
        if not any(isinstance(form, LivePython | LiveXla) for form in self.kernel.forms):
            from mycelium.polymer.forms.resolve import resolve

            return resolve(self.kernel)(*args, **kwargs)
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<kernel {self.kernel.name}{self.kernel.signature}>"


def wasm(
    module: bytes | str,
    entry: str,
    *,
    fuel: int = WASM_FUEL_DEFAULT,
    memory_bytes: int = WASM_MEMORY_BYTES_DEFAULT,
) -> WasmForm:
    """A WebAssembly body for `kernel(wasm=...)`: a module as bytes, or its text form, and the function to call in it.

    Units: `fuel` is about one per instruction; a call that needs more of it or of memory ends as `Exhausted`.
    """
    if isinstance(module, str):
        from mycelium.polymer.forms.wasm import binary

        module = binary(module)
    for what, came, most in (
        ("units of fuel", fuel, WASM_FUEL_MAX),
        ("bytes of memory", memory_bytes, WASM_MEMORY_BYTES_MAX),
    ):
        if not 0 < came <= most:
            raise Refused(f"{entry} asks for {came} {what}; 1 to {most}")
    return WasmForm(module, entry, fuel, memory_bytes)


def _optional(function: Callable[..., Any]) -> int:
    """How many of the last positional parameters have a default."""
    try:
        params = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 0
    positional = [param for param in params if param.kind in (param.POSITIONAL_ONLY, param.POSITIONAL_OR_KEYWORD)]
    return sum(param.default is not param.empty for param in positional)


@overload
def kernel(function: Callable[P, R]) -> KernelFunction[P, R]: ...
@overload
def kernel(
    *,
    name: str = ...,
    forms: Sequence[str] | None = ...,
    cache: bool = ...,
    retries: int = ...,
    wasm: WasmForm | None = ...,
) -> Callable[[Callable[P, R]], KernelFunction[P, R]]: ...
def kernel(
    function: Callable[..., Any] | None = None,
    *,
    name: str = "",
    forms: Sequence[str] | None = None,
    cache: bool = False,
    retries: int = 0,
    wasm: WasmForm | None = None,
) -> Any:
    """Make a kernel of a pure, annotated function.

    `forms`: `python` (any function) and `xla` (a function over arrays that jax can trace). With `wasm` the body is
    that of the module, and the function only says the types. `cache`: results may be kept by (kernel, inputs).
    `retries`: how often an error that it raises is tried again.
    Errors: `Refused` for a signature that no portable call can have, and for unknown forms.
    """
    extra = () if wasm is None else (wasm,)
    wanted = forms if forms is not None else () if wasm is not None else ("python",)

    def make(target: Callable[..., Any]) -> KernelFunction[..., Any]:
        if not callable(target):
            raise Refused(f"expected a function, got {type(target).__name__} {target!r:.60}")
        title = name or getattr(target, "__name__", type(target).__name__)
        return KernelFunction(target, name=title, forms=wanted, cache=cache, retries=retries, extra=extra)

    return make if function is None else make(function)


_wrapped: weakref.WeakKeyDictionary[Callable[..., Any], KernelFunction[..., Any]] = weakref.WeakKeyDictionary()


def as_kernel(function: Any) -> KernelFunction[..., Any]:
    """The kernel that a function stands for; a plain function becomes one of form python."""
    if isinstance(function, KernelFunction):
        return function
    if not callable(function):
        raise Refused(f"expected a kernel or a function, got {type(function).__name__} {function!r:.60}")
    try:
        known = _wrapped.get(function)
        if known is None:
            known = _wrapped[function] = kernel(function)
    except TypeError:  # cannot be weakly referenced, or not hashed: wrapped anew each time
        return kernel(function)
    return known
