"""From live forms to portable ones: what a container holds.

Tensor kernels are exported in a throw-away process where this one has not loaded jax. Never: changes what a kernel
gives.
"""

from __future__ import annotations

import subprocess
import sys

import msgspec

from mycelium.base.errors import KINDS, Refused
from mycelium.polymer.forms.resolve import available
from mycelium.polymer.kernel import EXTRAS, Form, FusedForm, Kernel, LivePython, LiveXla
from mycelium.polymer.program.graph import Module


def seal(module: Module) -> Module:
    """The module with every kernel in portable forms only."""
    return Module(module.graphs, {name: seal_kernel(kernel) for name, kernel in module.kernels.items()})


def seal_kernel(kernel: Kernel) -> Kernel:
    """Errors: `Refused` with the reason when a function cannot be written down or exported."""
    return msgspec.structs.replace(kernel, forms=tuple(_portable(kernel, form) for form in kernel.forms))


def _portable(kernel: Kernel, form: Form) -> Form:
    match form:
        case LivePython(function):
            from mycelium.polymer.forms.python import capture

            return capture(function, kernel.name)
        case LiveXla(function):
            if not available(form):
                extra = EXTRAS["xla"][1]
                raise Refused(
                    f"kernel {kernel.name} needs the extra {extra} to be exported",
                    hint=f"install it: pip install 'mycelium[{extra}]'",
                )
            return _exported(kernel, form)
        case FusedForm(members, steps):
            return FusedForm(tuple(seal_kernel(member) for member in members), steps)
        case _:
            return form


def _exported(kernel: Kernel, form: LiveXla) -> Form:
    if "jax" in sys.modules:
        from mycelium.polymer.forms.xla import exported

        return exported(kernel, form.function)
    import pickle

    from mycelium.polymer.shipping import dumps

    task = dumps((kernel, form.function, sys.path))
    code = "from mycelium.polymer.forms.seal import export_for_parent; export_for_parent()"
    done = subprocess.run([sys.executable, "-c", code], input=task, capture_output=True, check=False)
    if done.returncode != 0:
        raise Refused(f"kernel {kernel.name} could not be exported: {done.stderr.decode(errors='replace')[-500:]}")
    answer = pickle.loads(done.stdout)  # from our own child, which ran our own function
    if isinstance(answer, tuple):
        kind, message, hint = answer
        raise KINDS[kind](message, hint=hint)
    return answer


def export_for_parent() -> None:
    """The child's side of `_exported`."""
    import pickle

    from mycelium.base.errors import Problem
    from mycelium.polymer.forms.xla import exported

    kernel, function, path = pickle.load(sys.stdin.buffer)
    sys.path[:] = path
    try:
        answer: object = exported(kernel, function)
    except Problem as problem:
        answer = (problem.kind, problem.message, problem.hint)
    pickle.dump(answer, sys.stdout.buffer)
