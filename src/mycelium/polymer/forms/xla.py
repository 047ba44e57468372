"""The tensor form: functions over arrays, compiled by XLA for whatever this machine has.

Imported only where a tensor kernel runs or is exported; importing it imports jax. Float64 is honoured: every trace and
call here runs with 64-bit types on. Never: runs a module that somebody else made without `verify` before it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Sequence
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several workers may share one GPU

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from mycelium.base.errors import Refused
from mycelium.polymer.kernel import FusedForm, Kernel, LiveXla, XlaForm
from mycelium.polymer.schema.types import Param, Scalar, Signature, Tensor, TupleOf, Type

PLATFORMS = ("cpu", "cuda", "rocm")
_SCALARS = {"bool": np.bool_, "int": np.int64, "float": np.float64}


@contextlib.contextmanager
def wide() -> Generator[None]:
    """64-bit types on; without it float64 would become float32 silently."""
    with jax.enable_x64(True):
        yield


def compiled(kernel: Kernel, form: LiveXla | XlaForm) -> Callable[..., Any]:
    """A callable over numpy arrays. Each concrete shape is compiled once."""
    body = form.function if isinstance(form, LiveXla) else load(form, kernel.name).call
    return _caller(jax.jit(body))


def _caller(jitted: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        with wide():
            given = [jax.device_put(argument, may_alias=True) for argument in arguments]
            return jax.tree.map(np.asarray, jitted(*given))

    return call


def load(form: XlaForm, name: str) -> jax_export.Exported:
    """Errors: `Refused` when the bytes are no module of a version that can be read here."""
    try:
        return jax_export.deserialize(bytearray(form.exported))
    except Exception as error:  # the reader raises whatever its parsers raise
        raise Refused(f"kernel {name}: its xla form cannot be read here: {error!s:.200}") from error


def compiled_together(kernel: Kernel, form: FusedForm) -> Callable[..., Any]:
    """All members as one module. Between them values pass a wall, so that the bits are those of separate calls."""
    bodies = [_body(member) for member in form.members]

    def together(zero: Any, *arguments: Any) -> Any:
        held = list(arguments)
        last = len(form.steps) - 1
        for number, step in enumerate(form.steps):
            result = bodies[step.member](*[held[at] for at in step.arguments])
            held.append(result if number == last else jax.tree.map(lambda x: _wall(x, zero), result))
        return held[-1]

    jitted = _caller(jax.jit(together))
    return lambda *arguments: jitted(np.uint32(0), *arguments)


def _body(member: Kernel) -> Callable[..., Any]:
    for form in member.forms:
        if isinstance(form, LiveXla):
            return jax.jit(form.function)
        if isinstance(form, XlaForm):
            return load(form, member.name).call
    raise Refused(f"kernel {member.name} has no tensor form to be fused")


_WIDTHS = {2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint64}


def _wall(value: Any, zero: Any) -> Any:
    """The same bits, behind an exclusive or with `zero`, an argument that the compiler cannot know: loops fuse across
    it, multiplications and additions do not.

    A fused multiply-add rounds once where two kernels round twice; fusing must not change a result.
    """
    value = jnp.asarray(value)
    if not jnp.issubdtype(value.dtype, jnp.inexact) or jnp.issubdtype(value.dtype, jnp.complexfloating):
        return jax.lax.optimization_barrier(value) if jnp.issubdtype(value.dtype, jnp.inexact) else value
    width = _WIDTHS.get(value.dtype.itemsize)
    if width is None:
        return jax.lax.optimization_barrier(value)
    bits = jax.lax.bitcast_convert_type(value, width)
    return jax.lax.bitcast_convert_type(bits ^ zero.astype(width), value.dtype)


def is_tensor_kernel(kernel: Kernel) -> bool:
    """Whether everything that goes in and comes out is an array, so that it can be one module."""
    return all(isinstance(param.type, Tensor) for param in kernel.signature.params)


def exported(kernel: Kernel, function: Callable[..., Any]) -> XlaForm:
    """The function as a portable module for every platform, without paths or line numbers of this machine.

    Errors: `Refused` with what jax said when the function cannot be traced, or when its result is not what it promises.
    """
    _check_signature(kernel)
    with wide():
        try:
            made = jax_export.export(jax.jit(function), platforms=PLATFORMS)(*_shapes(kernel.signature.params))
        except Refused:
            raise
        except Exception as error:  # whatever jax says about a function that it cannot trace
            raise Refused(
                f"kernel {kernel.name} cannot become a module: {_first_line(error)}",
                hint="tensor kernels use jax.numpy on their arguments and no Python control flow over values",
            ) from error
    found = signature_of(made, kernel.signature)
    if not _agrees(kernel.signature.result, found.result):
        raise Refused(f"kernel {kernel.name} promises {kernel.signature.result} and gives {found.result}")
    return XlaForm(bytes(_without_locations(made).serialize()), PLATFORMS)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]


def _check_signature(kernel: Kernel) -> None:
    for number, param in enumerate(kernel.signature.params, 1):
        kind = param.type
        if isinstance(kind, Scalar) and kind.name in _SCALARS:
            continue
        if not isinstance(kind, Tensor) or kind.dims is None or kind.dtype == "number":
            raise Refused(
                f"kernel {kernel.name}, argument {number} ({param.name}): a module needs a tensor of known dtype and "
                f"number of dimensions, got {kind}",
                hint='annotate it, for example Float32[np.ndarray, "n d"]',
            )


def _shapes(params: Sequence[Param]) -> list[Any]:
    scope = jax_export.SymbolicScope()
    shapes = []
    for number, param in enumerate(params):
        if isinstance(param.type, Scalar):
            shapes.append(jax.ShapeDtypeStruct((), _SCALARS[param.type.name]))
            continue
        assert isinstance(param.type, Tensor)
        assert param.type.dims is not None
        dims = [f"any{number}_{at}" if dim == "_" else str(dim) for at, dim in enumerate(param.type.dims)]
        shape = jax_export.symbolic_shape(", ".join(dims), scope=scope) if dims else ()
        shapes.append(jax.ShapeDtypeStruct(shape, jnp.dtype(param.type.dtype)))
    return shapes


def signature_of(made: jax_export.Exported, named: Signature | None = None) -> Signature:
    """The signature that a module itself declares."""
    names = [param.name for param in named.params] if named else [f"x{n}" for n in range(1, len(made.in_avals) + 1)]
    params = tuple(Param(name, _tensor(aval)) for name, aval in zip(names, made.in_avals, strict=True))
    results = tuple(_tensor(aval) for aval in made.out_avals)
    return Signature(params, results[0] if len(results) == 1 else TupleOf(results))


def _tensor(aval: Any) -> Tensor:
    return Tensor(str(aval.dtype), tuple(dim if isinstance(dim, int) else str(dim) for dim in aval.shape))


def _agrees(promised: Type, found: Type) -> bool:
    """Dimensions are compared where both are numbers or names; jax writes expressions in its own way."""
    match promised, found:
        case Tensor(), Tensor():
            if promised.dtype not in (found.dtype, "number"):
                return False
            if promised.dims is None or found.dims is None:
                return True
            return len(promised.dims) == len(found.dims) and all(
                a == b or not isinstance(a, int) or not isinstance(b, int)
                for a, b in zip(promised.dims, found.dims, strict=True)
            )
        case TupleOf(), TupleOf():
            return len(promised.items) == len(found.items) and all(
                _agrees(a, b) for a, b in zip(promised.items, found.items, strict=True)
            )
        case Tensor() | TupleOf(), _:
            return False
        case _:
            return not isinstance(promised, Scalar) or isinstance(found, Tensor)


def parsing_context() -> Any:
    """An MLIR context that can read whatever jax writes, allowed or not."""
    from jax.extend.mlir import ir
    from jaxlib.mlir.dialects import chlo, mhlo, sdy, stablehlo

    context = ir.Context()
    for dialect in (stablehlo, chlo, sdy):
        dialect.register_dialect(context)
    mhlo.register_mhlo_dialect(context)
    return context


def _without_locations(made: jax_export.Exported) -> jax_export.Exported:
    """The same source gives the same bytes wherever it lies."""
    import dataclasses

    from jax.extend.mlir import serialize_portable_artifact
    from jax.extend.mlir.dialects import stablehlo
    from jaxlib.mlir.passmanager import PassManager

    context = parsing_context()
    with context:
        module = stablehlo.deserialize_portable_artifact(context, made.mlir_module_serialized)
        PassManager.parse("builtin.module(strip-debuginfo)").run(module.operation)
        text = module.operation.get_asm(enable_debug_info=False)
    small = serialize_portable_artifact(text, stablehlo.get_current_version())
    return dataclasses.replace(made, mlir_module_serialized=small)
