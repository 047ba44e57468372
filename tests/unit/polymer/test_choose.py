"""Kernels of several forms: each is tried, and then the one that costs least is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mycelium.polymer.forms import choose as choosing
from mycelium.polymer.forms.choose import HOPELESS, TRIES, Choice, choose
from mycelium.polymer.kernel import Kernel, LivePython, WasmForm
from mycelium.polymer.runtime.costs import Cost
from mycelium.polymer.schema.types import INT, Param, Signature

FORMS = (LivePython(abs), WasmForm(b"", "abs", 1, 1))


class Rig:
    """A choice between two forms that take as long as they are told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, python_ns: int, wasm_ns: int, *, start_ns: int = 0) -> None:
        self.now_ns = 0
        self.called: list[str] = []
        self.cost_ns = {"python": python_ns, "wasm": wasm_ns}
        monkeypatch.setattr(choosing, "START_NS", {"wasm": (start_ns, "nothing that is imported")})
        kernel = Kernel("sized", Signature((Param("x", INT),), INT), FORMS)
        self.choice = Choice(kernel, list(FORMS), lambda: self.now_ns)
        self.choice.callables["python"] = self.form("python")
        monkeypatch.setattr(choosing, "resolve_form", lambda form, kernel: self.form("wasm"))

    def form(self, name: str) -> Callable[[Any], Any]:
        def call(x: Any) -> Any:
            self.called.append(name)
            self.now_ns += self.cost_ns[name]
            return x

        return call

    def calls(self, count: int, value: Any = 0) -> list[str]:
        self.called.clear()
        assert [self.choice(value) for _ in range(count)] == [value] * count
        return list(self.called)


def test_each_form_is_tried_a_few_times_and_then_the_cheapest_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch, 300, 200)
    tried = rig.calls(2 * (TRIES + 1))
    assert tried.count("python") == tried.count("wasm") == TRIES + 1
    assert rig.calls(20) == ["wasm"] * 20


def test_a_form_that_becomes_slow_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch, 300, 200)
    rig.calls(20)
    rig.cost_ns["wasm"] = 2_000
    assert rig.calls(20)[-1] == "python"


def test_a_hopeless_form_costs_two_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch, 100, 100 * HOPELESS + 1)
    assert rig.calls(20).count("wasm") == 2


def test_a_form_whose_start_takes_long_waits_until_it_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch, 100, 1, start_ns=5_000)
    assert rig.calls(50) == ["python"] * 50
    assert rig.calls(20)[-1] == "wasm"


def test_small_and_large_arguments_are_judged_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch, 100, 300)
    rig.calls(20, "")
    rig.cost_ns = {"python": 1_000, "wasm": 300}
    assert rig.calls(20, "x" * 10_000)[-1] == "wasm"
    rig.cost_ns = {"python": 100, "wasm": 300}
    assert rig.calls(1, "") == ["python"]


def test_a_form_that_cannot_be_loaded_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch, 100, 1)

    def broken(form: Any, kernel: Any) -> Any:
        raise OSError("no such library")

    monkeypatch.setattr(choosing, "resolve_form", broken)
    assert set(rig.calls(20)) == {"python"}


def test_what_was_called_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch, 300, 200)
    rig.calls(8)
    cost = Cost()
    for _ in range(2):
        cost.chose(rig.choice.news())
    assert cost.chosen == {("sized", "python", "cpu"): (4, 1_200), ("sized", "wasm", "cpu"): (4, 800)}


def test_one_form_is_no_choice() -> None:
    choices: list[Choice] = []
    assert choose(Kernel("abs", Signature((Param("x", INT),), INT), FORMS[:1]), choices) is abs
    assert choices == []
