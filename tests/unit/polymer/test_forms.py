"""The forms of a kernel: captured source, and WebAssembly with its bounds."""

from __future__ import annotations

import functools
import math
import re
import sys
from functools import reduce as reduced
from math import sqrt as root
from operator import mul
from typing import Any, NamedTuple, Optional

import numpy
import pytest
from numpy import sin as numpy_sin

from mycelium.base.errors import Exhausted, Refused
from mycelium.polymer.define import program
from mycelium.polymer.forms.python import capture, define
from mycelium.polymer.forms.resolve import resolve
from mycelium.polymer.forms.verify import needs_trust, verify
from mycelium.polymer.function import kernel, wasm
from mycelium.polymer.kernel import Kernel, PythonForm, WasmForm
from mycelium.polymer.schema.infer import signature

SCALE = 3
WORDS = {"a": 1, "b": (2, 3)}


class Counter:
    def __init__(self, start: int) -> None:
        self.count = start * SCALE


def scaled(x: int) -> int:
    return x * SCALE


@kernel
def uses_much(x: int) -> float:
    """Reads a constant, a dict, a function, a class and a module."""
    return math.sqrt(scaled(x) + Counter(x).count + WORDS["b"][0])


@kernel
def fibonacci(n: int) -> int:
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def test_captured_source_gives_what_the_function_gives() -> None:
    form = capture(uses_much.function, "uses_much")
    assert "import math" in form.source
    assert "pickle" not in form.source
    assert define(form)(5) == uses_much(5)


@kernel
def borrows(x: float) -> float:
    """Reads what installed modules offer under names of their own."""
    total: Optional[float] = root(numpy_sin(x) ** 2 + reduced(mul, [x, x]))  # noqa: UP045
    return float(total or 0)


def test_what_installed_modules_offer_is_imported_by_name() -> None:
    form = capture(borrows.function, "borrows")
    for line in ("from math import sqrt as root", "from numpy import sin as numpy_sin"):
        assert line in form.source
    assert define(form)(2.0) == borrows(2.0)


def louder(function: Any) -> Any:
    @functools.wraps(function)
    def call(x: int) -> int:
        return 10 * function(x)

    return call


@functools.cache
def remembered(x: int) -> int:
    return x + 1


@louder
def loud(x: int) -> int:
    return x


@kernel
def hears(x: int) -> int:
    return loud(x)


@kernel
def remembers(x: int) -> int:
    return remembered(x)


def test_a_cached_function_is_captured_and_one_with_other_decorators_is_refused() -> None:
    assert define(capture(remembers.function, "remembers"))(1) == 2
    for function in (hears.function, loud):
        with pytest.raises(Refused, match="loud is decorated"):
            capture(function, "hears")


WORD = re.compile(r"[a-z]+", re.IGNORECASE)
WEIGHTS = numpy.array([[0.1, float("nan")], [float("inf"), -0.0]], "float32")


@kernel
def matches(text: str) -> tuple[list[str], bytes]:
    return WORD.findall(text), (WEIGHTS * 2).tobytes()


def test_patterns_and_small_arrays_are_captured_as_they_are() -> None:
    form = capture(matches.function, "matches")
    assert define(form)("One 2 three") == matches("One 2 three")


class Left(NamedTuple):
    parts: Optional[list[int]] = None  # noqa: UP045


@kernel
def leaves(left: Left) -> int:
    return len(left.parts or [])


def test_a_named_tuple_is_captured_with_what_its_fields_name() -> None:
    form = capture(leaves.function, "leaves")
    assert "from typing import NamedTuple\nfrom typing import Optional" in form.source
    assert "tuple = tuple" not in form.source
    assert define(form)(Left([1, 2])) == 2


def test_a_function_that_calls_itself_is_captured_once() -> None:
    form = capture(fibonacci.function, "fibonacci")
    assert form.source.count("def fibonacci") == 1
    assert define(form)(10) == 55


def test_closures_over_plain_values_are_captured_and_over_live_objects_refused() -> None:
    factor = 4

    def times(x: int) -> int:
        return x * factor

    assert define(capture(times, "times"))(2) == 8
    handle = sys.stdout

    def speak(x: int) -> int:
        handle.write("x")
        return x

    with pytest.raises(Refused, match="kernel speak cannot be written down: handle is "):
        capture(speak, "speak")


def test_a_lambda_is_captured_under_a_name() -> None:
    twice = lambda x: 2 * x  # noqa: E731
    assert define(capture(twice, "twice"))(4) == 8


def test_builtins_are_refused_with_a_hint() -> None:
    with pytest.raises(Refused, match="is not a Python function"):
        capture(len, "len")


def test_python_source_is_read_but_not_run_when_it_is_verified() -> None:
    def named(source: str) -> Kernel:
        return Kernel("k", uses_much.signature, (PythonForm(source, "k"),))

    assert not verify(named("def k(x):\n    return 1"))
    assert "cannot be read" in str(verify(named("def k(x:"))[0])
    assert "defines no k" in str(verify(named("raise SystemExit"))[0])
    assert needs_trust(named(""))


ADD = """(module
  (func (export "add") (param i64 i64) (result i64) (i64.add (local.get 0) (local.get 1))))"""
REVERSE = """(module
  (memory (export "memory") 1)
  (global $top (mut i32) (i32.const 1024))
  (func (export "alloc") (param $size i32) (result i32)
    (global.get $top) (global.set $top (i32.add (global.get $top) (local.get $size))))
  (func (export "reverse") (param $at i32) (param $size i32) (result i64)
    (local $i i32)
    (block $done (loop $again
      (br_if $done (i32.ge_u (local.get $i) (local.get $size)))
      (i32.store8 (i32.add (i32.const 512) (local.get $i))
        (i32.load8_u (i32.add (local.get $at)
          (i32.sub (i32.sub (local.get $size) (i32.const 1)) (local.get $i)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $again)))
    (i64.or (i64.const 512) (i64.shl (i64.extend_i32_u (local.get $size)) (i64.const 32)))))"""
FOREVER = """(module (func (export "forever") (param i64) (result i64) (loop (br 0)) (unreachable)))"""
GROW = """(module (memory (export "memory") 1)
  (func (export "grow") (param i64) (result i64) (i64.extend_i32_s (memory.grow (i32.const 1000)))))"""
HUGE = """(module (memory (export "memory") 1000) (func (export "huge") (param i64) (result i64) (i64.const 1)))"""
REACHING = """(module (import "env" "open" (func)) (func (export "reach") (param i64) (result i64) (i64.const 1)))"""


def made(function: Any, text: str, fuel: int = 100_000, memory_bytes: int = 1 << 20, data: bytes = b"") -> Kernel:
    pytest.importorskip("wasmtime")
    name = function.__name__
    return Kernel(
        name, signature(function, name), (WasmForm(data or wasm(text, name).module, name, fuel, memory_bytes),)
    )


def add(a: int, b: int) -> int: ...  # type: ignore[empty-body]
def reverse(x: bytes) -> bytes: ...  # type: ignore[empty-body]
def forever(x: int) -> int: ...  # type: ignore[empty-body]
def grow(x: int) -> int: ...  # type: ignore[empty-body]
def huge(x: int) -> int: ...  # type: ignore[empty-body]
def reach(x: int) -> int: ...  # type: ignore[empty-body]


def test_a_wasm_function_takes_numbers_and_bytes() -> None:
    assert resolve(made(add, ADD))(2, 40) == 42
    assert resolve(made(reverse, REVERSE))(b"abc") == b"cba"


def test_a_kernel_may_have_only_a_wasm_body() -> None:
    pytest.importorskip("wasmtime")

    @kernel(wasm=wasm(ADD, "add"))
    def add(a: int, b: int) -> int: ...  # type: ignore[empty-body]

    assert add.kernel.form_names() == ("wasm",)
    assert add(2, 3) == 5
    with pytest.raises(Refused, match="WebAssembly text cannot be read"):
        wasm("(module", "add")


@pytest.mark.parametrize(("fuel", "memory_bytes", "what"), [(-1, 1, "fuel"), (0, 1, "fuel"), (1, 1 << 40, "memory")])
def test_a_wasm_kernel_cannot_be_without_bounds(fuel: int, memory_bytes: int, what: str) -> None:
    with pytest.raises(Refused, match=what):
        wasm(b"", "add", fuel=fuel, memory_bytes=memory_bytes)


def test_only_functions_become_kernels_and_programs() -> None:
    for make in (kernel, program):
        with pytest.raises(Refused, match="expected a function, got int 3"):
            make(3)  # type: ignore[call-overload]
    with pytest.raises(Refused, match="-1 retries"):
        kernel(retries=-1)(abs)


def test_a_wasm_body_that_does_not_fit_its_kernel_is_refused_before_any_call() -> None:
    def wrong(a: float, b: int) -> int: ...  # type: ignore[empty-body]

    wrong.__name__ = "add"
    for odd, says in (
        (made(reach, REACHING), "imports env.open"),
        (made(reverse, ADD), "exports no function reverse"),
        (made(wrong, ADD), "its signature needs"),
    ):
        with pytest.raises(Refused, match=says):
            resolve(odd)


def test_a_wasm_call_ends_when_its_fuel_is_used() -> None:
    with pytest.raises(Exhausted, match="kernel forever used its 100000 units of fuel"):
        resolve(made(forever, FOREVER))(1)


def test_a_wasm_call_cannot_have_more_memory_than_it_states() -> None:
    assert resolve(made(grow, GROW))(1) == -1
    with pytest.raises(Exhausted, match="more than its 1048576 bytes of memory"):
        resolve(made(huge, HUGE))(1)


def test_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(Refused, match="does not fit 64 bits"):
        resolve(made(add, ADD))(1 << 63, 1)


def test_verify_names_what_is_wrong_with_a_wasm_form() -> None:
    assert not verify(made(add, ADD))
    assert "imports env.open" in str(verify(made(reach, REACHING))[0])
    assert "exports no function reverse" in str(verify(made(reverse, ADD))[0])
    assert "begins with 65536000 bytes of memory" in str(verify(made(huge, HUGE))[0])
    assert "at most" in str(verify(made(add, ADD, fuel=1 << 60))[0])
    assert "cannot be read" in str(verify(made(add, "", data=b"\0asm broken"))[0])

    def wrong(a: float, b: int) -> int: ...  # type: ignore[empty-body]

    wrong.__name__ = "add"
    assert "its signature needs ('f64', 'i64')" in str(verify(made(wrong, ADD))[0])
