"""The text form: what is written can be read, and what cannot be read is refused with its line."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mycelium.base.errors import Refused
from mycelium.polymer import verbs as my
from mycelium.polymer.compiler.check import check
from mycelium.polymer.compiler.compile import optimise, steps
from mycelium.polymer.define import program
from mycelium.polymer.forms.seal import seal
from mycelium.polymer.function import kernel
from mycelium.polymer.kernel import FusedCall, FusedForm, Kernel, WasmForm, XlaForm
from mycelium.polymer.program.graph import Graph, Module, Op
from mycelium.polymer.program.text import parse, write
from mycelium.polymer.schema.types import INT, ListOf, Param, Record, Signature, Tensor, Union


@kernel
def double(x: int) -> int:
    return 2 * x  # twice

    # a comment after an empty line


@kernel(retries=2, cache=True)
def weigh(x: int, factor: int = 3) -> int:
    return x * factor


@kernel
def add(a: int, b: int) -> int:
    return a + b


@kernel
def small(x: int) -> bool:
    return x < 50


@program
def sums(xs: list[int], flag: bool) -> int:
    doubled = my.map(double, my.map(double, xs))
    total = my.reduce(add, my.map(weigh, doubled), 1, associative=True)
    return my.select(flag, total, my.loop(small, double, weigh(4)))


def test_a_program_reads_back_as_it_was_written() -> None:
    module = seal(sums.module)
    shown = write(module)
    assert parse(shown.text, shown.bodies) == module
    assert "  %1 = input flag : bool" in shown.text
    assert "kernel weigh(x: int, factor: int) -> int optional 1 cache retries 2 {" in shown.text
    assert "  | def double(x: int) -> int:" in shown.text


def test_every_pass_leaves_a_program_that_reads_back() -> None:
    for name, module in steps(seal(sums.module)):
        shown = write(module)
        assert parse(shown.text, shown.bodies) == module, name


def test_fusing_leaves_one_map_inside_the_reduce() -> None:
    @program
    def chained(xs: list[int]) -> int:
        return my.reduce(add, my.map(double, my.map(double, my.map(double, xs))), associative=True)

    module = optimise(chained.module)
    assert [op.verb for op in module.main.ops] == ["input", "reduce"]
    assert module.main.ops[1].each == "double__double__double"


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -7, 10**50, 1.5, -1e-9, math.inf, -math.inf,
     "a \"quoted\" \n line é", b"\0\xff", [1, [2]], (1, "a"), (),
     {"a": [1.0], 2: None}, [], {}],
)  # fmt: skip
def test_constants_read_back(value: Any) -> None:
    module = Module({"main": Graph("main", (Op("const", (), INT, value=value),), 0)}, {})
    shown = write(module)
    back = parse(shown.text, shown.bodies).main.ops[0].value
    assert back == value
    assert type(back) is type(value)


def test_tensors_are_kept_beside_the_text() -> None:
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    shown = write(Module({"main": Graph("main", (Op("const", (), INT, value=value),), 0)}, {}))
    assert "const tensor float32[2, 3] @" in shown.text
    np.testing.assert_array_equal(parse(shown.text, shown.bodies).main.ops[0].value, value)
    with pytest.raises(Refused, match=r"line 4: the body [0-9a-f]{12}... is not here"):
        parse(shown.text, {})


def test_types_and_forms_of_every_kind_read_back() -> None:
    kinds = (
        Tensor("float32", ("n", 3, "2*n + 1", "_")), Tensor("int8", None), Tensor("bool", ()),
        Record((("a b", INT), ("c", ListOf(INT)))), Record((), "object"), Union((INT, ListOf(INT))),
    )  # fmt: skip
    signature = Signature((*(Param(f"x{at}", kind) for at, kind in enumerate(kinds)), Param("*rest", INT)), INT)
    forms = (XlaForm(b"abc", ("cpu", "cuda")), WasmForm(b"def", "go", 5, 6))
    held = Kernel("<lambda>", signature, forms)
    module = Module({"main": Graph("main", (Op("const", (), INT, value=1),), 0)}, {"<lambda>": held})
    shown = write(module)
    assert parse(shown.text, shown.bodies) == module


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the text ends too early"),
        ("polymer 2", "this release reads version 1"),
        ("polymer 1\n", "holds no program"),
        ("polymer 1\nprogram p {\n  %1 = input x : int", "line 3: operations are numbered in their order"),
        ("polymer 1\nprogram p {\n  %0 = guess x : int", "line 3: there is no verb 'guess'"),
        ("polymer 1\nprogram p {\n  %0 = input x : floaty", "line 3: there is no type 'floaty'"),
        ("polymer 1\nprogram p {\n  output %0\n}", "line 3: there is no %0"),
        ("polymer 1\nprogram p {\n  %0 = const [[1 : int", "line 3: expected ',', got :"),
        ("polymer 1\nprogram p {\n  %0 = const " + "[" * 100 + " : int", "line 3: a constant is nested more than"),
        ("polymer 1\nprogram p {\n  %0 = input x : " + "list[" * 100, "line 3: a type is nested more than"),
        ("polymer 1\nprogram p {\n  %0 = const " + "9" * 5000 + " : int", "is not a whole number"),
        ("polymer 1\nkernel k() -> int {\n  python live\n}", "a live function cannot be read back"),
        ("polymer 1\nkernel k() -> int {\n  magic\n}", "line 3: kernel k: there is no form 'magic'"),
    ],
)
def test_broken_text_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(Refused) as refused:
        parse(text, {})
    assert said in str(refused.value)


def broken(*ops: Op, output: int = 0) -> Module:
    return Module({"main": Graph("main", ops, output)}, {"double": double.kernel})


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (broken(Op("call", (0,), INT, kernel="double")), "%0 call: it reads what comes after it"),
        (
            broken(Op("const", (), INT, value=1), Op("call", (0,), INT, kernel="gone")),
            "it names gone, which is not here",
        ),
        (broken(Op("const", (), INT, value="a"), Op("call", (0,), INT, kernel="double")), "its type is not that of"),
        (broken(Op("input", (), INT, name="x"), Op("map", (0,), INT, kernel="double")), "expected a list or an array"),
        (broken(Op("input", (), INT, name="x"), Op("input", (), INT, name="x")), "two inputs are called x"),
        (broken(Op("loop", (), INT, kernel="double", test="double")), "it reads 0 values"),
        (broken(output=3), "its output is not one of its operations"),
    ],
)
def test_a_module_that_does_not_hold_together_is_refused(module: Module, said: str) -> None:
    with pytest.raises(Refused) as refused:
        check(module)
    assert said in str(refused.value)


def test_a_fused_kernel_that_reads_what_is_not_there_is_refused() -> None:
    for step in (FusedCall(1, (0,)), FusedCall(0, (1,)), FusedCall(0, (0, 0)), FusedCall(0, (-1,))):
        fused = Kernel("fused", double.signature, (FusedForm((double.kernel,), (step,)),))
        with pytest.raises(Refused, match="kernel fused, step 0: it reads or calls what is not there"):
            check(Module(sums.module.graphs, {**sums.module.kernels, "fused": fused}))


def test_a_graph_that_repeats_itself_is_refused() -> None:
    ops = (Op("input", (), INT, name="x"), Op("loop", (0,), INT, kernel="main", test="small"))
    with pytest.raises(Refused, match="program main: it repeats itself"):
        check(Module({"main": Graph("main", ops, 1)}, {"small": small.kernel}))


def test_an_unknown_pass_is_refused() -> None:
    with pytest.raises(Refused, match="there is no pass 'go_faster'"):
        optimise(sums.module, ["go_faster"])
