"""From a kernel to something that can be called in this process: the first of its forms that works here.

Extras are imported only when a form needs them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from mycelium.base.errors import Refused
from mycelium.polymer.kernel import (
    EXTRAS,
    Form,
    FusedForm,
    Kernel,
    LivePython,
    LiveXla,
    PythonForm,
    WasmForm,
    XlaForm,
    form_name,
)


def available(form: Form) -> bool:
    """Whether what this form needs is installed here; nothing is imported."""
    needs = EXTRAS.get(form_name(form))
    return needs is None or importlib.util.find_spec(needs[0]) is not None


def resolve(kernel: Kernel) -> Callable[..., Any]:
    """A callable for the kernel.

    Errors: `Refused` when none of its forms can run here, naming the extra that is missing.
    """
    for form in kernel.forms:
        if available(form):
            return resolve_form(form, kernel)
    wanted = [EXTRAS[name][1] for name in kernel.form_names() if name in EXTRAS]
    if not wanted:
        raise Refused(f"kernel {kernel.name} has no form that can run")
    raise Refused(
        f"kernel {kernel.name} has only the forms {', '.join(kernel.form_names())}, which nothing here can run",
        hint=f"install the extra: pip install 'mycelium[{wanted[0]}]'",
    )


def resolve_form(form: Form, kernel: Kernel) -> Callable[..., Any]:
    """A callable for one form of the kernel, whose extra is installed."""
    match form:
        case LivePython(function):
            return function
        case PythonForm():
            from mycelium.polymer.forms.python import define

            return define(form, kernel.signature)
        case LiveXla() | XlaForm():
            from mycelium.polymer.forms.xla import compiled

            return compiled(kernel, form)
        case WasmForm():
            from mycelium.polymer.forms.wasm import instantiate

            return instantiate(form, kernel)
        case FusedForm():
            return _fused(form, kernel)


def _fused(form: FusedForm, kernel: Kernel) -> Callable[..., Any]:
    if all("xla" in member.form_names() or member.form_names() == ("fused",) for member in form.members):
        from mycelium.polymer.forms.xla import compiled_together, is_tensor_kernel

        if is_tensor_kernel(kernel):
            return compiled_together(kernel, form)
    return compose(form, [resolve(member) for member in form.members])


def compose(form: FusedForm, members: list[Callable[..., Any]]) -> Callable[..., Any]:
    """One callable that runs the steps in order."""
    if all(len(step.arguments) == 1 for step in form.steps) and _is_chain(form):
        chain = [members[step.member] for step in form.steps]
        if len(chain) == 2:
            first, second = chain
            return lambda x: second(first(x))

        def run_chain(x: Any) -> Any:
            for link in chain:
                x = link(x)
            return x

        return run_chain
    steps = [(members[step.member], step.arguments) for step in form.steps]

    def run(*values: Any) -> Any:
        held = list(values)
        for member, arguments in steps:
            held.append(member(*[held[at] for at in arguments]))
        return held[-1]

    return run


def _is_chain(form: FusedForm) -> bool:
    """One parameter, and each step reads what the step before gave."""
    return all(step.arguments == (at,) for at, step in enumerate(form.steps))
