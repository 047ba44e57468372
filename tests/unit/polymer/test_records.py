"""Records of classes: they travel without their class, and every side sees its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypedDict

import msgspec
import numpy
import pytest

import mycelium as my
from mycelium.polymer.container import pmr, values
from mycelium.polymer.forms.seal import seal
from mycelium.polymer.runtime.interpreter import interpret
from mycelium.polymer.schema.records import Loose, fitted, given_back


@dataclass(frozen=True)
class Point:
    x: float
    y: float

    def size(self) -> float:
        return (self.x**2 + self.y**2) ** 0.5


class Span(msgspec.Struct, frozen=True):
    begin: int
    points: list[Point]


class Pair(NamedTuple):
    key: str
    span: Span | None


class Titled(TypedDict):
    title: str
    point: Point


@my.kernel
def moved(point: Point, by: float) -> Point:
    assert point.size() >= 0
    return Point(point.x + by, point.y)


@my.kernel
def spanned(points: list[Point]) -> Span:
    return Span(len(points), points)


@my.kernel
def paired(span: Span) -> Pair:
    assert isinstance(span, Span) and all(isinstance(point, Point) for point in span.points)
    return Pair("a", span)


@my.kernel
def titled(pair: Pair) -> Titled:
    assert pair.span is not None
    return {"title": pair.key, "point": pair.span.points[0]}


@my.program
def whole(points: list[Point], by: float) -> tuple[Pair, Titled]:
    pair = paired(spanned(my.map(moved, points, my.map(same, points, my.ref(by)))))
    return pair, titled(pair)  # type: ignore[return-value]


@my.kernel
def same(point: Point, by: float) -> float:
    return by


def far_away(of: Any, *inputs: Any) -> Any:
    """What a site does: everything through bytes, no class known but those in the container."""
    module = pmr.read(pmr.pack(seal(of.module))).module
    given = values.read(values.pack(of.named(list(inputs))))
    return given_back(of.function, values.read(values.pack(interpret(module, given))))


def test_records_of_every_kind_come_back_as_their_own_class() -> None:
    points = [Point(1.0, 2.0), Point(3.0, 4.0)]
    here = interpret(whole.module, {"points": points, "by": 1.5})
    assert far_away(whole, points, 1.5) == here
    assert isinstance(here[0].span.points[0], Point)


def test_a_kernel_without_records_pays_nothing() -> None:
    @my.kernel
    def plain(x: int) -> int:
        return x

    @my.program
    def program(x: int) -> int:
        return plain(x)

    from mycelium.polymer.forms.resolve import resolve

    kernel = next(iter(pmr.read(pmr.pack(seal(program.module))).module.kernels.values()))
    assert resolve(kernel).__name__ == "plain"


@pytest.mark.parametrize(
    ("value", "same"),
    [
        (Point(1.0, 2.0), lambda back: back == Loose({"x": 1.0, "y": 2.0})),
        (numpy.float32(1.5), lambda back: type(back) is numpy.float32 and back == 1.5),
        (numpy.array(3), lambda back: back.shape == () and back == 3),
        (numpy.bool_(True), lambda back: type(back) is numpy.bool_ and bool(back)),
    ],
)
def test_values_that_are_neither_plain_nor_arrays_travel(value: Any, same: Callable[[Any], bool]) -> None:
    assert same(values.read(values.pack(value)))


def test_a_loose_record_is_read_only_and_says_what_it_lacks() -> None:
    loose = Loose({"x": 1})
    with pytest.raises(AttributeError, match="no field y"):
        _ = loose.y
    with pytest.raises(AttributeError, match="read-only"):
        loose.x = 2


@dataclass
class Tagged:
    name: str
    tags: list[str] = field(default_factory=list)


def test_fields_that_were_left_out_get_their_defaults() -> None:
    assert fitted(list[Tagged], [Loose({"name": "a"})]) == [Tagged("a")]
    with pytest.raises(TypeError, match="name"):
        fitted(Tagged, Loose({"tags": []}))
