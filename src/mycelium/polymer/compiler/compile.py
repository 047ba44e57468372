"""The passes, in their order."""

from __future__ import annotations

from mycelium.polymer.program.graph import Module


def optimise(module: Module) -> Module:
    return module
