"""Random programs over numbers and lists, one for each seed: every verb, shared values, unchosen sides that would
fail.
"""

from __future__ import annotations

import random
from typing import Any

from mycelium.polymer import verbs as my
from mycelium.polymer.define import ProgramFunction
from mycelium.polymer.function import KernelFunction, kernel
from mycelium.polymer.program.graph import Module
from mycelium.polymer.program.trace import Value, trace
from mycelium.polymer.schema.types import INT, ListOf, Param

PRIME = 1_000_003


@kernel
def triple(x: int) -> int:
    return 3 * x % PRIME


@kernel
def square(x: int) -> int:
    return x * x % PRIME


@kernel
def mix(a: int, b: int) -> int:
    return (7 * a + b + 1) % PRIME


@kernel
def minus(a: int, b: int) -> int:
    return a - b


@kernel
def odd(x: int) -> bool:
    return x % 2 == 1


@kernel
def small(x: int) -> bool:
    return x < 1000


@kernel
def grow(x: int) -> int:
    return 2 * abs(x) + 1


@kernel
def short(xs: list[int]) -> list[int]:
    return xs[: max(1, len(xs) // 2)]


@kernel
def total(xs: list[int]) -> int:
    return sum(xs) % PRIME


@kernel
def spread(x: int) -> list[int]:
    return [x + step for step in range(x % 23 + 1)]


@kernel
def split(x: int) -> tuple[int, int]:
    return x // 10, x % 10


@kernel
def explode(x: int) -> int:
    raise ValueError(f"nobody should have asked for {x}")


@kernel
def pair(ab: tuple[int, int]) -> int:
    return ab[0] - 2 * ab[1]


def _grow_all(xs: list[int]) -> list[int]:
    return my.map(grow, xs)


@kernel
def all_small(xs: list[int]) -> bool:
    return max(xs) < 500


GROW_ALL: ProgramFunction[..., Any] = ProgramFunction(_grow_all, "grow_all")
ONE: list[KernelFunction[..., Any]] = [triple, square, grow]
TWO: list[KernelFunction[..., Any]] = [mix, minus]


def random_program(seed: int, size: int = 12) -> Module:
    """The program of this seed, over inputs `x: int` and `xs: list[int]`."""
    chance = random.Random(seed)

    def build(x: Value, xs: Value) -> Any:
        numbers: list[Any] = [x, chance.randrange(100)]
        lists: list[Any] = [xs]
        for _ in range(chance.randrange(1, size)):
            _grow_program(chance, numbers, lists)
        output = [chance.choice(numbers), chance.choice(lists)]
        return tuple(output[: chance.randrange(1, 3)]) if chance.random() < 0.7 else my.map(triple, lists[-1])

    return trace(build, "random", [Param("x", INT), Param("xs", ListOf(INT))])


def random_inputs(seed: int) -> dict[str, Any]:
    chance = random.Random(seed + 1)
    return {
        "x": chance.randrange(1000),
        "xs": [chance.randrange(1000) for _ in range(chance.choice([1, 2, 15, 16, 17, 300]))],
    }


def _grow_program(chance: random.Random, numbers: list[Any], lists: list[Any]) -> None:
    number, other, many = chance.choice(numbers), chance.choice(numbers), chance.choice(lists)
    one, two = chance.choice(ONE), chance.choice(TWO)
    match chance.randrange(14):
        case 0:
            numbers.append(one(number))
        case 1:
            numbers.append(two(number, other))
        case 2:
            lists.append(my.map(one, many))
        case 3:
            lists.append(my.map(two, many, many))
        case 4:
            lists.append(my.map(two, my.ref(number), many))
        case 5:
            lists.append(my.map(pair, my.zip(many, my.map(one, many))))
        case 6:
            numbers.append(my.reduce(two, many, associative=chance.random() < 0.6))
        case 7:
            numbers.append(my.reduce(two, my.map(one, many), number, associative=chance.random() < 0.6))
        case 8:
            start = () if chance.random() < 0.5 else (number,)
            lists.append(my.scan(two, many, *start, associative=chance.random() < 0.5))
        case 9:
            # One side may fail: it must not matter, because it is only taken where it does not.
            safe = my.select(odd(number), one(number), one(other))
            numbers.append(my.select(my_true(safe), safe, explode(safe)))
        case 10:
            numbers.append(my.loop(small, grow, number))
        case 11:
            lists.append(my.loop(all_small, GROW_ALL, my.map(grow, many)))
        case 12:
            high, low = split(number)
            numbers += [high, low]
            numbers.append(total(many))
        case _:
            lists.append(spread(number))
            lists.append(my.select(odd(other), short(many), many))


@kernel
def my_true(x: int) -> bool:
    return x == x
