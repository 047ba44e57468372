"""Laws of Polymer: the pool gives what the interpreter gives, and every pass may be on or off.

`POLYMER_PROGRAMS=10000` in the environment tries that many programs; by default there are few, so that tests stay
short.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mycelium.polymer.compiler.check import check
from mycelium.polymer.compiler.compile import names, optimise
from mycelium.polymer.program.graph import Module
from mycelium.polymer.runtime.dataflow import run
from mycelium.polymer.runtime.interpreter import interpret
from mycelium.polymer.runtime.memo import MemoryMemo
from mycelium.pools.local.pool import LocalPool
from tests.property.polymer_programs import random_inputs, random_program

PROGRAMS = int(os.environ.get("POLYMER_PROGRAMS", "60"))
MANY = settings(max_examples=PROGRAMS, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def pool() -> Iterator[LocalPool]:
    with LocalPool(2) as made:
        made.wait_ready()
        yield made


@MANY
@given(seed=st.integers(0, 1 << 30), off=st.sets(st.sampled_from(names())))
def test_passes_on_equal_passes_off(seed: int, off: set[str]) -> None:
    module, inputs = random_program(seed), random_inputs(seed)
    smaller = optimise(module, off)
    check(smaller)
    assert interpret(smaller, inputs) == interpret(module, inputs)


def test_the_pool_gives_what_the_interpreter_gives(pool: LocalPool) -> None:
    @MANY
    @given(seed=st.integers(0, 1 << 30), passes=st.booleans(), speculate=st.booleans())
    def law(seed: int, passes: bool, speculate: bool) -> None:
        module, inputs = random_program(seed), random_inputs(seed)
        expected = interpret(module, inputs)
        assert run(optimise(module) if passes else module, inputs, pool, speculate=speculate) == expected

    law()


def test_kept_results_are_those_that_would_be_computed(pool: LocalPool) -> None:
    memo = MemoryMemo()

    @MANY
    @given(seed=st.integers(0, 1 << 30), passes=st.booleans())
    def law(seed: int, passes: bool) -> None:
        module, inputs = random_program(seed), random_inputs(seed)
        expected = interpret(module, inputs)
        kept = Module(module.graphs, {name: replace(one, cache=True) for name, one in module.kernels.items()})
        assert run(optimise(kept) if passes else kept, inputs, pool, memo=memo) == expected

    law()
    assert memo.held
