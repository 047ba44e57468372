"""Which form of a kernel runs here: each that can is tried a few times, then the one that costs least is taken.

Costs are measured in the process that runs the calls, so they are those of its own device, and for each size of the
arguments by itself. A form whose start takes long (importing jax) is tried once the calls so far have taken as long.
Never: runs a form that the reference would not; that all forms of a kernel give the same is their author's promise.
Source: C. Augonnet et al., "StarPU: a unified platform for task scheduling on heterogeneous multicore architectures",
2011: one codelet, several implementations, a history of costs for each device kind and size.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from mycelium.polymer.forms.resolve import available, compose, resolve, resolve_form
from mycelium.polymer.kernel import Form, FusedForm, Kernel, form_name

TRIES = 3  # measured calls of each form, after one that may compile
HOPELESS = 8  # a form so many times slower than another at its first measured call is not tried again
RECENT = 0.1  # how much the newest call weighs
START_NS = {"wasm": (50_000_000, "wasmtime"), "xla": (1_500_000_000, "jax")}  # before the first call, unless imported

Chosen = tuple[str, str, str, int, int]  # kernel, form, device kind, calls, nanoseconds


class Track:
    """What calls of one form took, for arguments of one size."""

    __slots__ = ("call_ns", "calls")

    def __init__(self) -> None:
        self.calls = -1  # the first call is not counted: it may compile
        self.call_ns = 0.0

    def measured(self, spent_ns: int) -> None:
        self.calls += 1
        if self.calls <= TRIES:
            self.call_ns = spent_ns if self.calls <= 1 else min(self.call_ns, spent_ns)
        else:
            self.call_ns += RECENT * (spent_ns - self.call_ns)

    def known(self, best_ns: float) -> bool:
        return self.calls >= TRIES or (self.calls >= 1 and self.call_ns > HOPELESS * best_ns)


class Choice:
    """A kernel of several forms, called as whichever costs least."""

    def __init__(self, kernel: Kernel, forms: list[Form], clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self.kernel, self.clock_ns = kernel, clock_ns
        self.forms = {form_name(form): form for form in reversed(forms)}  # of several of one kind the first
        self.order = list(dict.fromkeys(form_name(form) for form in forms))
        self.callables: dict[str, Callable[..., Any]] = {}
        self.tracks: dict[int, dict[str, Track]] = {}
        self.spent_ns = 0
        self.tally: dict[str, list[int]] = {}

    def __call__(self, *arguments: Any) -> Any:
        tracks = self.tracks.get(size := _size(arguments))
        if tracks is None:
            tracks = self.tracks[size] = {name: Track() for name in self.order}
        name = self.pick(tracks)
        while (call := self.callables.get(name) or self._ready(name)) is None:
            name = self.pick(tracks)
        begun_ns = self.clock_ns()
        value = call(*arguments)
        spent_ns = self.clock_ns() - begun_ns
        tracks[name].measured(spent_ns)
        self.spent_ns += spent_ns
        tally = self.tally.setdefault(name, [0, 0])
        tally[0] += 1
        tally[1] += spent_ns
        return value

    def pick(self, tracks: dict[str, Track]) -> str:
        """The form to call now: one that is not known yet and is worth its start, else the cheapest."""
        best_ns = min((track.call_ns for track in tracks.values() if track.calls >= 1), default=0.0)
        open_ = [name for name in self.order if best_ns == 0.0 or not tracks[name].known(best_ns)]
        ready = [name for name in open_ if self._start_ns(name) <= self.spent_ns]
        if ready:
            return min(ready, key=self._start_ns)
        tried = [name for name in self.order if tracks[name].calls >= 1]
        if tried:
            return min(tried, key=lambda name: tracks[name].call_ns)
        return min(self.order, key=self._start_ns)

    def _start_ns(self, name: str) -> int:
        start_ns, imports = START_NS.get(name, (0, ""))
        return 0 if name in self.callables or imports in sys.modules else start_ns

    def _ready(self, name: str) -> Callable[..., Any] | None:
        """The form as something to call; None when it cannot be loaded here and another one is left."""
        try:
            found = self.callables[name] = resolve_form(self.forms[name], self.kernel)
        except Exception:
            if len(self.order) == 1:
                raise
            self.order.remove(name)
            return None
        return found

    def news(self) -> list[Chosen]:
        """What has been called since this was last asked."""
        tally, self.tally = self.tally, {}
        return [(self.kernel.name, name, _device(name), calls, ns) for name, (calls, ns) in tally.items()]


def choose(kernel: Kernel, choices: list[Choice]) -> Callable[..., Any]:
    """A callable for the kernel, as `resolve` gives; where there is a choice it is made by cost, and told in `choices`.

    Errors: those of `resolve`.
    """
    forms = [form for form in kernel.forms if available(form)]
    if len({form_name(form) for form in forms}) > 1:
        choices.append(Choice(kernel, forms))
        return choices[-1]
    if len(forms) == 1 and isinstance(forms[0], FusedForm) and any(len(one.forms) > 1 for one in forms[0].members):
        return compose(forms[0], [choose(member, choices) for member in forms[0].members])
    return resolve(kernel)


def _size(arguments: tuple[Any, ...]) -> int:
    """The order of magnitude of what the arguments hold: costs of calls far apart say nothing of each other."""
    size = 0
    for argument in arguments:
        held = getattr(argument, "nbytes", None)
        size += held if held is not None else len(argument) if hasattr(argument, "__len__") else 1
    return size.bit_length()


def _device(name: str) -> str:
    return sys.modules["jax"].default_backend() if name == "xla" and "jax" in sys.modules else "cpu"
