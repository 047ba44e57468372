"""Modules of a forger, who alters one byte and makes every digest fit: refused, or run without harm to the pool.

With `MYC_TEST_LONG=1` every byte of the WebAssembly is tried and 40 of the tensors' module; by default a few.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy
import pytest
from msgspec.structs import replace

from mycelium.base.errors import Problem
from mycelium.polymer.container import pmr
from mycelium.polymer.forms.seal import seal_kernel
from mycelium.polymer.forms.verify import verify
from mycelium.polymer.forms.wasm import binary
from mycelium.polymer.function import wasm
from mycelium.polymer.kernel import Kernel, LiveXla, WasmForm, XlaForm
from mycelium.polymer.program.graph import Graph, Module, Op
from mycelium.polymer.runtime.dataflow import run
from mycelium.polymer.schema.types import INT, Param, Signature, Tensor
from mycelium.pools.local.pool import LocalPool

LONG = bool(os.environ.get("MYC_TEST_LONG"))
WAT = """(module (memory (export "memory") 1) (global $n (mut i64) (i64.const 3))
  (func (export "times") (param i64) (result i64)
    (block $done (loop $again
      (br_if $done (i64.eqz (global.get $n)))
      (global.set $n (i64.sub (global.get $n) (i64.const 1)))
      (local.set 0 (i64.mul (local.get 0) (i64.const 2)))
      (br $again)))
    (local.get 0)))"""
VECTOR = Tensor("float32", ("n",))


@pytest.fixture(scope="module")
def pool() -> Iterator[LocalPool]:
    with LocalPool(1) as made:
        yield made


def flipped(data: bytes, count: int) -> Iterator[bytes]:
    step = max(1, len(data) // count)
    for at in range(step // 2, len(data), step):
        altered = bytearray(data)
        altered[at] ^= 1 << (at % 8)
        yield bytes(altered)


def program_of(kernel: Kernel) -> Module:
    """The forger's container, read as anybody reads it."""
    param, result = kernel.signature.params[0], kernel.signature.result
    ops = (Op("input", (), param.type, name=param.name), Op("call", (0,), result, kernel=kernel.name))
    return pmr.read(pmr.pack(Module({"forged": Graph("forged", ops, 1)}, {kernel.name: kernel}))).module


def outcome(kernel: Kernel, value: object, pool: LocalPool) -> str:
    if verify(kernel):
        return "refused"
    try:
        run(program_of(kernel), {"x": value}, pool)
    except (Problem, RuntimeError, ValueError, TypeError):
        return "failed"
    return "ran"


def test_altered_webassembly_is_refused_or_runs_without_harm(pool: LocalPool) -> None:
    pytest.importorskip("wasmtime", reason="the extra `wasm` is not installed")
    data = binary(WAT)
    signature = Signature((Param("x", INT),), INT)
    good = Kernel("times", signature, (wasm(data, "times", fuel=10_000),))
    assert run(program_of(good), {"x": 5}, pool) == 40
    seen = {
        outcome(replace(good, forms=(WasmForm(bad, "times", 10_000, 1 << 20),)), 5, pool) for bad in flipped(data, 9)
    }
    assert "refused" in seen
    assert run(program_of(good), {"x": 5}, pool) == 40


def test_altered_tensors_are_refused_or_run_without_harm(pool: LocalPool) -> None:
    pytest.importorskip("jax", reason="the extra `xla` is not installed")
    signature = Signature((Param("x", VECTOR),), VECTOR)
    good = seal_kernel(Kernel("scale", signature, (LiveXla(lambda x: x * 3 + 1),)))
    (form,) = good.forms
    assert isinstance(form, XlaForm)
    x = numpy.ones(8, numpy.float32)
    assert (run(program_of(good), {"x": x}, pool) == 4).all()
    for bad in flipped(form.exported, 40 if LONG else 1):
        outcome(replace(good, forms=(XlaForm(bad, form.platforms),)), x, pool)
    assert (run(program_of(good), {"x": x}, pool) == 4).all()
