"""Kernels of several forms on a pool: the workers find out which costs least, and results stay the same."""

from __future__ import annotations

import time

import pytest

import mycelium as my
from mycelium.polymer.runtime.costs import Cost
from mycelium.polymer.runtime.dataflow import run
from mycelium.polymer.runtime.interpreter import interpret
from mycelium.pools.local.pool import LocalPool

WAT = '(module (func (export "triple") (param i64) (result i64) (i64.mul (local.get 0) (i64.const 3))))'


def test_the_form_that_costs_least_is_called_most_and_results_are_the_same() -> None:
    pytest.importorskip("wasmtime", reason="the extra `wasm` is not installed")

    @my.kernel(forms=["python"], wasm=my.wasm(WAT, "triple"))
    def triple(x: int) -> int:
        time.sleep(0.002)
        return 3 * x

    @my.program
    def triples(xs: list[int]) -> list[int]:
        return my.map(triple, xs)

    costs: dict[str, Cost] = {}
    xs = list(range(1_000))
    with LocalPool(2) as pool:
        assert run(triples.module, {"xs": xs}, pool, costs=costs) == [3 * x for x in xs]
    (cost,) = costs.values()
    calls = {form: count for (_, form, _), (count, _) in cost.chosen.items()}
    assert calls["wasm"] > calls["python"] > 0
    assert sum(calls.values()) == 1_000
    assert interpret(triples.module, {"xs": xs[:3]}) == [0, 3, 6]
