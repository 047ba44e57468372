"""Types: inferred from annotations, unified over symbolic dimensions, checked on values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import pytest
from numpy.typing import NDArray

from mycelium.base.errors import Refused
from mycelium.polymer.schema.infer import dims_of, of_annotation, signature
from mycelium.polymer.schema.types import ANY, INT, STR, ListOf, Param, Signature, Tensor, TupleOf
from mycelium.polymer.schema.unify import Bindings, apply, mismatch
from mycelium.polymer.schema.values import check, type_of


class Word(TypedDict):
    text: str
    count: int


@dataclass
class Point:
    x: float
    y: float


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (int, "int"),
        (None, "none"),
        (list[str], "list[str]"),
        (Sequence[int], "list[int]"),
        (tuple[int, str], "tuple[int, str]"),
        (tuple[int, ...], "list[int]"),
        (dict[str, int], "dict[str, int]"),
        (int | None, "int | none"),
        (Word, "{text: str, count: int}"),
        (Point, "object{x: float, y: float}"),
        (NDArray[np.float32], "float32[...]"),
        (np.ndarray, "number[...]"),
        (Any, "any"),
        (object, "any"),
    ],
)
def test_an_annotation_has_a_type_with_a_text(hint: Any, text: str) -> None:
    assert str(of_annotation(hint)) == text


def test_jaxtyping_annotations_give_dtype_and_dimensions() -> None:
    jaxtyping = pytest.importorskip("jaxtyping")
    assert str(of_annotation(jaxtyping.Float32[np.ndarray, "n d 3"])) == "float32[n, d, 3]"
    assert str(of_annotation(jaxtyping.Float[np.ndarray, "n"])) == "number[n]"
    assert str(of_annotation(jaxtyping.Int64[np.ndarray, ""])) == "int64[]"


def test_dimensions_are_read_as_jaxtyping_writes_them() -> None:
    assert dims_of("n 3 _ #b rows=4") == ("n", 3, "_", "_", 4)
    assert dims_of("... d") is None


def test_keyword_only_arguments_are_refused_by_name() -> None:
    def bad(x: int, *, y: int) -> int:
        return x + y

    with pytest.raises(Refused, match="kernel bad, argument y: keyword-only"):
        signature(bad, "bad")


MATMUL = Signature(
    (Param("x", Tensor("float32", ("n", "m"))), Param("y", Tensor("float32", ("m", "k")))),
    Tensor("float32", ("n", "k")),
)


def test_dimensions_flow_from_arguments_to_the_result() -> None:
    result, faults = apply("matmul", MATMUL, [Tensor("float32", (5, "rows")), Tensor("float32", ("rows", 7))])
    assert not faults
    assert str(result) == "float32[5, 7]"


def test_a_dimension_that_disagrees_names_kernel_argument_and_constraint() -> None:
    _, faults = apply("matmul", MATMUL, [Tensor("float32", (5, 6)), Tensor("float32", (8, 7))])
    assert str(faults[0]) == (
        "kernel matmul, argument 2 (y): expected float32[m, k], got float32[8, 7]: "
        "m is 6 by constraint 2 (from argument 1 (x)), not 8"
    )


def test_a_wrong_dtype_and_a_wrong_count_are_named() -> None:
    _, faults = apply("matmul", MATMUL, [Tensor("float64", (5, 6)), Tensor("float32", (6, 7))])
    assert "expected float32[n, m], got float64[5, 6]" in str(faults[0])
    _, faults = apply("matmul", MATMUL, [Tensor("float64", (5, 6))])
    assert "takes 2 arguments" in str(faults[0])


def test_expressions_over_dimensions_are_computed_once_known() -> None:
    twice = Signature((Param("x", Tensor("float32", ("n",))),), Tensor("float32", ("2*n + 1",)))
    assert str(apply("twice", twice, [Tensor("float32", (4,))])[0]) == "float32[9]"


def test_a_list_of_rows_may_be_an_array() -> None:
    assert mismatch(ListOf(Tensor("float32", ("d",))), Tensor("float32", (9, 4)), Bindings(), "x") == ""


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (INT, "a", "x: expected int, got str 'a'"),
        (INT, True, "x: expected int, got bool True"),
        (ListOf(INT), [1, "b"], "x[1]: expected int, got str 'b'"),
        (ListOf(INT), 3, "x: expected list[int], got int 3"),
        (TupleOf((INT, STR)), (1, 2), "x[1]: expected str, got int 2"),
        (Tensor("float32", (2,)), np.zeros(3, "float32"), "expected float32[2], got float32[3]"),
        (of_annotation(Word), {"text": "a"}, "expected a record with field count"),
        (of_annotation(dict[str, int]), {"a": "b"}, "x['a']: expected int, got str 'b'"),
    ],
)
def test_a_value_of_another_type_is_refused_with_what_came(kind: Any, value: Any, said: str) -> None:
    assert said in str(check(kind, value, "x", Bindings())[0])


def test_values_of_the_right_type_pass() -> None:
    assert not check(of_annotation(Point), Point(1.0, 2.0), "x", Bindings())
    assert not check(ListOf(of_annotation(float)), np.arange(3.0), "x", Bindings())
    assert not check(of_annotation(int | None), None, "x", Bindings())
    assert not check(ANY, object(), "x", Bindings())


def test_every_value_is_of_its_own_type() -> None:
    for value in (1, 2.5, "a", b"b", None, True, [1, 2], (1, "a"), {"a": 1}, np.zeros((2, 3)), []):
        assert not check(type_of(value), value, "x", Bindings())
