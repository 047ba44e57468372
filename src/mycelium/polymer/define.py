"""`@program`: a function that describes a graph of kernel calls. Calling it runs the graph on every core."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

from mycelium.base.errors import Refused
from mycelium.polymer import outside
from mycelium.polymer.here import execute
from mycelium.polymer.program.graph import Module
from mycelium.polymer.program.trace import inline, trace, trace_of, traced
from mycelium.polymer.schema.infer import signature as infer_signature
from mycelium.polymer.schema.records import given_back
from mycelium.polymer.schema.types import Signature

P = ParamSpec("P")
R = TypeVar("R")


class ProgramFunction(Generic[P, R]):
    """What `@program` leaves in the place of a function. `module` is the traced graph; it is made at the first use."""

    def __init__(self, function: Callable[P, R], name: str = "") -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name or function.__name__
        self.signature: Signature = infer_signature(function, self.name)

    @functools.cached_property
    def module(self) -> Module:
        return trace(self.function, self.name, self.signature.params)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        given = self.bind(args, kwargs)
        if traced(given):
            return inline(trace_of(given), self.module, given)  # type: ignore[return-value]
        return execute(self.module, self.named(given))

    def run(
        self,
        *args: Any,
        site: str | bool | None = None,
        token: str = "",
        cpus: float | None = None,
        nodes: int | None = None,
        memory: str | None = None,
        time: str | None = None,
        **kwargs: Any,
    ) -> R:
        """The result, computed here, or on a site: its URL, or True for the one that `myc` talks to.

        `cpus` and `memory` are those of each node; the token is what `myc login` kept, unless it is given.
        """
        given = self.bind(args, kwargs)
        if site is None or site is False:
            return self(*given)  # type: ignore[call-arg]
        asked = {"cpus": cpus, "nodes": nodes, "memory": memory, "time": time}
        asked = {key: value for key, value in asked.items() if value is not None}
        url = "" if site is True else site
        return given_back(self.function, outside.run_on_site(self.module, self.named(given), url, token, asked))

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """The inputs in order. Errors: `Refused` for missing and unknown ones."""
        names = [param.name for param in self.signature.params]
        held = dict(zip(names, args, strict=False))
        doubled = [name for name in kwargs if name in held or name not in names]
        if len(args) > len(names) or doubled:
            odd = f"{doubled[0]!r}" if doubled else f"{len(args)} inputs"
            raise Refused(f"program {self.name} takes {', '.join(names) or 'no inputs'}; it got {odd}")
        held |= kwargs
        missing = [name for name in names if name not in held]
        if missing:
            raise Refused(f"program {self.name} needs input {missing[0]}: {self.signature}")
        return [held[name] for name in names]

    def named(self, given: list[Any]) -> dict[str, Any]:
        return dict(zip((param.name for param in self.signature.params), given, strict=True))

    def __repr__(self) -> str:
        return f"<program {self.name}{self.signature}>"


def program(function: Callable[P, R]) -> ProgramFunction[P, R]:
    """Make a program of a function that only calls kernels, programs and `map zip reduce scan select loop`."""
    if not hasattr(function, "__name__"):
        raise Refused(f"expected a function, got {type(function).__name__} {function!r:.60}")
    return ProgramFunction(function)
