"""What a program is given, held against what it says that it takes."""

from __future__ import annotations

from typing import Any

from mycelium.base.errors import Fault, Refused, refuse
from mycelium.polymer.program.graph import Module
from mycelium.polymer.schema.unify import Bindings
from mycelium.polymer.schema.values import check


def check_inputs(module: Module, inputs: dict[str, Any]) -> None:
    """Errors: `Refused` with every input that is missing, unknown or of another type than the program says."""
    params = module.main.inputs()
    names = {param.name for param in params}
    unknown = [name for name in inputs if name not in names]
    if unknown:
        raise Refused(
            f"program {module.main.name} has no input {unknown[0]!r}", hint=f"it has {', '.join(sorted(names))}"
        )
    bindings = Bindings()
    faults: list[Fault] = []
    for number, param in enumerate(params, 1):
        if param.name not in inputs:
            raise Refused(f"program {module.main.name} needs input {param}")
        where = f"program {module.main.name}, input {number} ({param.name})"
        faults += check(param.type, inputs[param.name], where, bindings)
    refuse(faults)
