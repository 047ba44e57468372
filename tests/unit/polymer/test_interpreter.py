"""The reference interpreter and the tracing that feeds it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mycelium.base.errors import Refused
from mycelium.polymer import here
from mycelium.polymer import verbs as my
from mycelium.polymer.define import ProgramFunction, program
from mycelium.polymer.function import kernel
from mycelium.polymer.runtime.interpreter import interpret
from mycelium.polymer.runtime.work import FAN


@kernel
def double(x: int) -> int:
    return 2 * x


@kernel
def add(a: int, b: int) -> int:
    return a + b


@kernel
def minus(a: int, b: int) -> int:
    return a - b


@kernel
def small(x: int) -> bool:
    return x < 100


@kernel
def explode(x: int) -> int:
    raise ValueError(f"no {x}")


def reference(function: ProgramFunction[..., Any], **inputs: Any) -> Any:
    return interpret(function.module, inputs)


def test_a_program_is_traced_once_and_gives_its_result() -> None:
    @program
    def total(xs: list[int]) -> int:
        return my.reduce(add, my.map(double, xs))

    assert reference(total, xs=[1, 2, 3]) == 12
    assert [op.verb for op in total.module.main.ops] == ["input", "map", "reduce"]
    assert str(total.module.main.ops[1].type) == "list[int]"


def test_a_fold_in_order_is_left_to_right_and_a_tree_has_one_shape() -> None:
    @program
    def in_order(xs: list[int]) -> int:
        return my.reduce(minus, xs)

    @program
    def as_tree(xs: list[int]) -> int:
        return my.reduce(minus, xs, associative=True)

    xs = list(range(1, 3 * FAN))
    assert reference(in_order, xs=xs) == xs[0] - sum(xs[1:])
    blocks = [xs[at] - sum(xs[at + 1 : at + FAN]) for at in range(0, len(xs), FAN)]
    assert reference(as_tree, xs=xs) == blocks[0] - sum(blocks[1:])


def test_zip_scan_select_and_loop() -> None:
    @program
    def everything(xs: list[int], ys: list[int], flag: bool) -> tuple[list[int], list[int], int, int]:
        pairs = my.map(add, my.zip(xs, ys))
        sums = my.scan(add, pairs, 10)
        chosen = my.select(flag, double(1), explode(2))
        return pairs, sums, chosen, my.loop(small, double, 3)  # type: ignore[return-value]

    assert reference(everything, xs=[1, 2], ys=[3, 4], flag=True) == ([4, 6], [14, 20], 2, 192)
    with pytest.raises(ValueError, match="no 2") as raised:
        reference(everything, xs=[1], ys=[2], flag=False)
    assert "kernel explode" in raised.value.__notes__[0]


def test_a_loop_may_repeat_a_program() -> None:
    @program
    def body(x: int) -> int:
        return add(double(x), 1)

    @program
    def looped(x: int) -> int:
        return my.loop(small, body, x)

    assert reference(looped, x=1) == 127


def test_a_program_inside_a_program_becomes_part_of_it() -> None:
    @program
    def inner(x: int) -> int:
        return double(x)

    @program
    def outer(x: int) -> int:
        return add(inner(x), inner(double(x)))

    assert reference(outer, x=5) == 30
    assert list(outer.module.kernels) == ["double", "add"]


def test_a_failing_call_of_a_map_names_kernel_and_index() -> None:
    @program
    def failing(xs: list[int]) -> list[int]:
        return my.map(explode, xs)

    with pytest.raises(ValueError, match="no 7") as raised:
        reference(failing, xs=[7, 8])
    assert "kernel explode, call 0" in raised.value.__notes__[0]


def test_types_are_checked_while_the_program_is_built() -> None:
    @kernel
    def length(text: str) -> int:
        return len(text)

    @program
    def wrong(xs: list[int]) -> list[int]:
        return my.map(length, xs)

    with pytest.raises(Refused, match=r"kernel length, argument 1 \(text\): expected str, got int"):
        _ = wrong.module


def test_a_value_cannot_be_looked_at_while_the_program_is_built() -> None:
    @program
    def peeking(x: int) -> int:
        return 1 if x else 2

    with pytest.raises(Refused, match="was tested while the program was being built"):
        _ = peeking.module


def test_a_kernel_cannot_change_what_others_read() -> None:
    @kernel
    def spoil(xs: list[int]) -> int:
        xs.append(1)
        return len(xs)

    @kernel
    def write(a: np.ndarray) -> int:
        a[0] = 1
        return 0

    @program
    def twice(xs: list[int]) -> tuple[int, int]:
        return spoil(xs), spoil(xs)

    assert reference(twice, xs=[]) == (1, 1)

    @program
    def written(a: np.ndarray) -> int:
        return write(a)

    with pytest.raises(ValueError, match="read-only"):
        reference(written, a=np.zeros(3))


def test_shared_arguments_are_not_walked_over() -> None:
    @kernel
    def lookup(table: list[int], at: int) -> int:
        return table[at]

    @program
    def looked(table: list[int], xs: list[int]) -> list[int]:
        return my.map(lookup, my.ref(table), xs)

    assert reference(looked, table=[5, 6, 7], xs=[2, 0]) == [7, 5]


def test_sequences_of_different_lengths_are_refused() -> None:
    @program
    def uneven(xs: list[int], ys: list[int]) -> list[int]:
        return my.map(add, xs, ys)

    with pytest.raises(Refused, match="different lengths: 2, 1"):
        reference(uneven, xs=[1, 2], ys=[1])


def test_two_kernels_of_one_name_stay_two() -> None:
    @kernel(name="double")
    def other(x: int) -> int:
        return 3 * x

    @program
    def both(x: int) -> int:
        return add(double(x), other(x))

    assert reference(both, x=1) == 5
    assert list(both.module.kernels) == ["double", "double_2", "add"]


@kernel
def joined(a: str, b: str) -> str:
    if "!" in b:
        raise ValueError(b)
    return a + b


@pytest.mark.parametrize("length", [0, 1, 2, 15, 16, 17, 33, 300])
@pytest.mark.parametrize("init", [(), ("<",)])
def test_an_associative_scan_is_the_one_in_order(length: int, init: tuple[str, ...]) -> None:
    letters = [chr(97 + at % 26) for at in range(length)]

    @program
    def in_order(xs: list[str]) -> list[str]:
        return my.scan(joined, xs, *init)

    @program
    def in_blocks(xs: list[str]) -> list[str]:
        return my.scan(joined, xs, *init, associative=True)

    assert interpret(in_blocks.module, {"xs": letters}) == interpret(in_order.module, {"xs": letters})


@pytest.mark.parametrize("given", [(1, 2, 3), range(1, 4), [1, 2, 3], {1: 0, 2: 0, 3: 0}.keys()])
def test_any_sequence_is_walked_over_at_once(given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "execute", interpret)
    assert my.map(double, given) == [2, 4, 6]
    assert my.map(add, given, (x for x in given)) == [2, 4, 6]
    assert my.reduce(add, given) == 6
    assert my.scan(add, (x for x in given), associative=True) == [1, 3, 6]
