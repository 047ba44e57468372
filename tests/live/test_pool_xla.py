"""Tensor kernels: exported, verified in a throw-away process, fused, and equal in every bit."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from mycelium.base.errors import Refused
from mycelium.polymer.compiler.compile import optimise
from mycelium.polymer.container import pmr
from mycelium.polymer.forms.resolve import resolve
from mycelium.polymer.forms.seal import seal, seal_kernel
from mycelium.polymer.forms.verify import verify
from mycelium.polymer.function import KernelFunction
from mycelium.polymer.kernel import FusedCall, FusedForm, Kernel, LiveXla, XlaForm
from mycelium.polymer.program.trace import trace
from mycelium.polymer.runtime.dataflow import run
from mycelium.polymer.runtime.interpreter import interpret
from mycelium.polymer.schema.types import Param, Signature, Tensor
from mycelium.pools.local.pool import LocalPool

jax = pytest.importorskip("jax")

VECTOR = Tensor("float32", ("n",))
UNARY = Signature((Param("x", VECTOR),), VECTOR)


def scale(x: Any) -> Any:
    return x * 1.7


def shift(x: Any) -> Any:
    return x + 0.3


def squash(x: Any) -> Any:
    import jax.numpy as jnp

    return jnp.tanh(x)


def tensor_kernel(function: Any, signature: Signature = UNARY) -> Kernel:
    return Kernel(function.__name__, signature, (LiveXla(function),))


def tensor_function(function: Any) -> KernelFunction[..., Any]:
    made = KernelFunction(function, name=function.__name__, forms=("xla",), cache=False, retries=0, extra=())
    made.kernel = msgspec.structs.replace(made.kernel, signature=UNARY)
    return made


scale_kernel, squash_kernel = tensor_function(scale), tensor_function(squash)


@pytest.fixture(scope="module")
def sealed() -> dict[str, Kernel]:
    return {function.__name__: seal_kernel(tensor_kernel(function)) for function in (scale, shift, squash)}


def test_an_exported_kernel_is_small_deterministic_and_names_no_path(sealed: dict[str, Kernel]) -> None:
    form = sealed["squash"].forms[0]
    assert isinstance(form, XlaForm)
    assert form.platforms == ("cpu", "cuda", "rocm")
    assert form == seal_kernel(tensor_kernel(squash)).forms[0]
    assert b"test_pool_xla" not in form.exported
    x = np.linspace(-3, 3, 1001, dtype=np.float32)
    np.testing.assert_array_equal(resolve(sealed["squash"])(x), resolve(tensor_kernel(squash))(x))


def test_a_fused_chain_has_the_bits_of_separate_calls(sealed: dict[str, Kernel]) -> None:
    members = tuple(sealed[name] for name in ("scale", "shift", "squash"))
    steps = (FusedCall(0, (0,)), FusedCall(1, (1,)), FusedCall(2, (2,)), FusedCall(0, (3,)), FusedCall(1, (4,)))
    fused = Kernel("fused", UNARY, (FusedForm(members, steps),))
    run = resolve(fused)
    for size in (1, 17, 4096, 100_003):
        x = np.random.default_rng(size).standard_normal(size).astype(np.float32)
        expected = x
        for name in ("scale", "shift", "squash", "scale", "shift"):
            expected = resolve(sealed[name])(expected)
        np.testing.assert_array_equal(run(x), expected)


def test_float64_stays_float64() -> None:
    wide = Signature((Param("x", Tensor("float64", ("n",))),), Tensor("float64", ("n",)))
    assert resolve(tensor_kernel(scale, wide))(np.ones(3)).dtype == np.float64


def test_an_honest_module_passes_and_a_lying_signature_does_not(sealed: dict[str, Kernel]) -> None:
    assert not verify(sealed["squash"])
    matrix = Tensor("float32", ("n", "m"))
    lying = Kernel("squash", Signature((Param("x", matrix),), matrix), sealed["squash"].forms)
    assert "argument x: expected float32[n], got float32[n, m]" in str(verify(lying)[0])


def test_a_module_that_calls_out_is_refused_by_name() -> None:
    def reach(x: Any) -> Any:
        import jax.numpy as jnp

        return jnp.linalg.cholesky(x)

    square = Tensor("float32", (4, 4))
    reaching = seal_kernel(tensor_kernel(reach, Signature((Param("x", square),), square)))
    reasons = [str(fault) for fault in verify(reaching)]
    assert any("which is not part of it" in reason for reason in reasons), reasons


def test_altered_bytes_are_refused_without_harm(sealed: dict[str, Kernel]) -> None:
    form = sealed["scale"].forms[0]
    assert isinstance(form, XlaForm)
    for cut in (0, 10, len(form.exported) // 2):
        broken = Kernel("scale", UNARY, (XlaForm(form.exported[:cut], form.platforms),))
        assert verify(broken)


def test_a_function_that_cannot_be_traced_is_refused_with_the_reason() -> None:
    def branching(x: Any) -> Any:
        return x if x.sum() > 0 else -x

    with pytest.raises(Refused, match="kernel branching cannot become a module"):
        seal_kernel(tensor_kernel(branching))


def test_a_result_that_is_not_as_promised_is_refused() -> None:
    wrong = Signature((Param("x", VECTOR),), Tensor("float64", ("n",)))
    with pytest.raises(Refused, match=r"promises float64\[n\] and gives float32\[n\]"):
        seal_kernel(tensor_kernel(scale, wrong))


def test_a_container_of_tensor_kernels_runs_and_any_altered_byte_is_refused() -> None:
    module = optimise(trace(lambda x: squash_kernel(scale_kernel(x)), "chain", [Param("x", VECTOR)]))
    assert [op.verb for op in module.main.ops] == ["input", "call"], "the two calls are one module"
    packed = pmr.pack(seal(module))
    assert b"pickle" not in packed
    x = np.linspace(-1, 1, 99, dtype=np.float32)
    np.testing.assert_array_equal(interpret(pmr.read(packed).module, {"x": x}), interpret(module, {"x": x}))
    for at in range(len(packed)):
        altered = bytearray(packed)
        altered[at] ^= 1 << (at % 8)
        with pytest.raises(Refused):
            pmr.read(bytes(altered))


def test_tensor_programs_run_on_a_pool() -> None:
    module = trace(lambda x: squash_kernel(scale_kernel(x)), "chain", [Param("x", VECTOR)])
    x = np.linspace(-1, 1, 100_000, dtype=np.float32)
    with LocalPool(1) as pool:
        on_pool = run(optimise(module), {"x": x}, pool)
    np.testing.assert_array_equal(on_pool, interpret(module, {"x": x}))
