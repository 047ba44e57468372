"""The passes, in their order, on one screen. Each maps a module to an equal one and can be switched off.

Never: looks at a value, runs a kernel, or needs to know on what the program will run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from mycelium.base.errors import Refused
from mycelium.polymer.compiler.check import check
from mycelium.polymer.compiler.passes.drop_dead import drop_dead
from mycelium.polymer.compiler.passes.fuse_calls import fuse_calls
from mycelium.polymer.compiler.passes.fuse_maps import fuse_maps
from mycelium.polymer.compiler.passes.fuse_reduces import fuse_reduces
from mycelium.polymer.compiler.passes.merge_equal import merge_equal
from mycelium.polymer.program.graph import Module

Pass = Callable[[Module], Module]

PASSES: tuple[Pass, ...] = (
    drop_dead,  # what no output needs, and constants chosen by a constant condition
    merge_equal,  # equal operations become one: kernels are pure
    fuse_maps,  # a map over a map becomes one map of a fused kernel
    fuse_reduces,  # the last map before a reduce runs inside it, so that only partial results travel
    fuse_calls,  # chains of tensor calls become one module
    drop_dead,  # what fusing left behind
)


def names() -> tuple[str, ...]:
    return tuple(dict.fromkeys(step.__name__ for step in PASSES))


def optimise(module: Module, off: Collection[str] = ()) -> Module:
    """The module after every pass that is not switched off.

    Errors: `Refused` for a pass that does not exist, and for a module that does not hold together.
    """
    unknown = [name for name in off if name not in names()]
    if unknown:
        raise Refused(f"there is no pass {unknown[0]!r}", hint=f"the passes are {', '.join(names())}")
    check(module)
    for step in PASSES:
        if step.__name__ not in off:
            module = step(module)
    return module


def steps(module: Module, off: Collection[str] = ()) -> Iterator[tuple[str, Module]]:
    """The module after each pass, for those who want to watch."""
    check(module)
    for step in PASSES:
        if step.__name__ not in off:
            module = step(module)
            yield step.__name__, module
