"""What several passes need: applying a change to every graph of a module, entering fused kernels."""

from __future__ import annotations

from collections.abc import Callable

from mycelium.polymer.kernel import FusedCall, FusedForm, Kernel
from mycelium.polymer.program.graph import Graph, Module
from mycelium.polymer.schema.types import Signature


def graphs(module: Module, change: Callable[[Module, Graph], tuple[Module, Graph]]) -> Module:
    """The module with each graph changed; a change may enter kernels."""
    for name in module.graphs:
        module, graph = change(module, module.graphs[name])
        module = module.with_graph(graph)
    return module


def enter(module: Module, kernel: Kernel) -> tuple[Module, str]:
    """The module with the kernel in it, and the name that it got: its own, or the next that is free."""
    for name, held in module.kernels.items():
        if held.forms == kernel.forms and held.signature == kernel.signature:
            return module, name
    name, number = kernel.name, 1
    while name in module.kernels or name in module.graphs:
        number += 1
        name = f"{kernel.name}_{number}"
    held = Kernel(name, kernel.signature, kernel.forms)
    return Module(module.graphs, {**module.kernels, name: held}), name


def chain(first: Kernel, second: Kernel) -> Kernel:
    """The kernel `second(first(...))`, flattened where the parts are fused themselves."""
    signature = Signature(first.signature.params, second.signature.result)
    name = f"{first.name}__{second.name}"
    members: list[Kernel] = []
    steps: list[FusedCall] = []
    last = _append(first, list(range(len(first.signature.params))), members, steps, len(first.signature.params))
    _append(second, [last], members, steps, len(first.signature.params))
    return Kernel(
        name if len(name) <= 100 else f"{name[:96]}_etc", signature, (FusedForm(tuple(members), tuple(steps)),)
    )


def _append(kernel: Kernel, arguments: list[int], members: list[Kernel], steps: list[FusedCall], params: int) -> int:
    """Add the steps of one kernel; the place of its result."""
    form = kernel.forms[0]
    if not isinstance(form, FusedForm):
        if kernel not in members:
            members.append(kernel)
        steps.append(FusedCall(members.index(kernel), tuple(arguments)))
        return params + len(steps) - 1
    place = list(arguments)
    for step in form.steps:
        member = form.members[step.member]
        place.append(_append(member, [place[at] for at in step.arguments], members, steps, params))
    return place[-1]


def steps_of(kernel: Kernel) -> int:
    form = kernel.forms[0]
    return len(form.steps) if isinstance(form, FusedForm) else 1


def fusible(kernel: Kernel) -> bool:
    """Kernels that promise something of each call (kept results, retries) stay calls of their own."""
    return not kernel.cache and not kernel.retries and not kernel.optional
