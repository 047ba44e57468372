"""Whether a stranger's kernel may run here, and if not, every reason.

Modules are parsed in a throw-away process with bounds on memory and time, because the readers of StableHLO and
WebAssembly are large C++ and Rust programs that were not written for hostile input alone. Never: runs a kernel, or
parses a module in this process.
"""

from __future__ import annotations

import ast
import subprocess
import sys

import msgspec
from msgspec import Struct

from mycelium.base.errors import Fault, Refused
from mycelium.base.limits import (
    FUSED_STEPS_MAX,
    VERIFY_MEMORY_BYTES,
    VERIFY_TIME_MS,
    WASM_FUEL_MAX,
    WASM_MEMORY_BYTES_MAX,
    XLA_CONSTANT_BYTES_MAX,
    XLA_OPERATIONS_MAX,
    XLA_TENSOR_BYTES_MAX,
)
from mycelium.polymer.forms.resolve import available
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
from mycelium.polymer.schema.types import Param, Scalar, Signature, Tensor, TupleOf, Type
from mycelium.polymer.schema.unify import Bindings, mismatch

# of dialect stablehlo, what can reach outside the module or between devices; everything else is arithmetic
OPERATIONS = [
    "infeed",
    "outfeed",
    "send",
    "recv",
    "all_gather",
    "all_reduce",
    "all_to_all",
    "collective_permute",
    "collective_broadcast",
    "reduce_scatter",
    "partition_id",
    "replica_id",
    "cross-replica-sum",
    "create_token",
    "after_all",
    "rng",
    "rng_bit_generator",
]
CUSTOM_CALLS = ("shape_assertion", "stablehlo.shape_refinement_operand_wrapper")  # what jax.export itself puts in
DIALECTS = ("builtin", "func", "stablehlo")


class Walked(Struct, frozen=True):
    """What the throw-away process saw of one module."""

    error: str = ""
    params: tuple[Type, ...] = ()
    results: tuple[Type, ...] = ()
    platforms: tuple[str, ...] = ()
    devices: int = 1
    effects: tuple[str, ...] = ()
    disabled_checks: tuple[str, ...] = ()
    operations: dict[str, int] = {}
    custom_calls: tuple[str, ...] = ()
    constant_bytes: int = 0
    tensor_bytes: int = 0
    imports: tuple[str, ...] = ()
    exports: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    memory_bytes: int = 0


def verify(kernel: Kernel) -> list[Fault]:
    """Every reason why the kernel may not run here without trust in its author; none when it may.

    Errors: `Refused` when what is needed to look at it is not installed.
    """
    faults: list[Fault] = []
    for form in kernel.forms:
        where = f"kernel {kernel.name}, form {form_name(form)}"
        faults += [Fault(where, reason) for reason in _reasons(kernel, form)]
    if not kernel.forms:
        faults.append(Fault(f"kernel {kernel.name}", "it has no form"))
    return faults


def needs_trust(kernel: Kernel) -> bool:
    """Whether running it means running its author's Python."""
    return any(
        isinstance(form, PythonForm | LivePython)
        or (isinstance(form, FusedForm) and any(needs_trust(member) for member in form.members))
        for form in kernel.forms
    )


def _reasons(kernel: Kernel, form: Form) -> list[str]:
    match form:
        case LivePython() | LiveXla():
            return []  # this process's own
        case PythonForm(source, entry):
            return _python_reasons(source, entry)
        case XlaForm():
            return _xla_reasons(kernel, form)
        case WasmForm():
            return _wasm_reasons(kernel, form)
        case FusedForm(members, steps):
            if len(steps) > FUSED_STEPS_MAX:
                return [f"{len(steps)} fused steps; at most {FUSED_STEPS_MAX}"]
            return [str(fault) for member in members for fault in verify(member)]


def _python_reasons(source: str, entry: str) -> list[str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return [f"its source cannot be read: {error}"]
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    names |= {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return [] if entry in names else [f"its source defines no {entry}"]


def _walk(kind: str, data: bytes) -> Walked:
    """Let a throw-away process read the module."""
    arguments = [sys.executable, "-m", "mycelium.polymer.forms.walk", kind, str(VERIFY_MEMORY_BYTES)]
    try:
        done = subprocess.run(arguments, input=data, capture_output=True, timeout=VERIFY_TIME_MS / 1000, check=False)
    except subprocess.TimeoutExpired:
        return Walked(error=f"reading it took more than {VERIFY_TIME_MS // 1000} s")
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2][:200]
        return Walked(error=f"reading it ended the process that read it, with status {done.returncode}: {last}")
    try:
        return msgspec.json.decode(done.stdout, type=Walked)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Walked(error=f"reading it gave no answer: {error}")


def _installed(form: Form, kernel: Kernel) -> None:
    if not available(form):
        extra = EXTRAS[form_name(form)][1]
        raise Refused(
            f"kernel {kernel.name}: its {form_name(form)} form cannot be checked without the extra {extra}",
            hint=f"install it: pip install 'mycelium[{extra}]'",
        )


def _xla_reasons(kernel: Kernel, form: XlaForm) -> list[str]:
    _installed(form, kernel)
    seen = _walk("xla", form.exported)
    if seen.error:
        return [seen.error]
    reasons = [
        *([f"it is for {seen.devices} devices; a kernel runs on one"] if seen.devices != 1 else []),
        *([f"it has effects: {', '.join(seen.effects)}"] if seen.effects else []),
        *([f"it disables safety checks: {', '.join(seen.disabled_checks)}"] if seen.disabled_checks else []),
        *(
            [f"it is lowered for {', '.join(seen.platforms)}, and says {', '.join(form.platforms)}"]
            if seen.platforms != form.platforms
            else []
        ),
    ]
    for name in sorted(seen.operations):
        dialect, _, operation = name.partition(".")
        if dialect not in DIALECTS or operation in OPERATIONS:
            reasons.append(f"it holds the operation {name}, which no kernel may use")
    reasons += [
        f"it calls {target!r}, which is not part of it" for target in seen.custom_calls if target not in CUSTOM_CALLS
    ]
    for name, came, most in (
        ("operations", sum(seen.operations.values()), XLA_OPERATIONS_MAX),
        ("bytes of constants", seen.constant_bytes, XLA_CONSTANT_BYTES_MAX),
        ("bytes in its largest tensor", seen.tensor_bytes, XLA_TENSOR_BYTES_MAX),
    ):
        if came > most:
            reasons.append(f"{came} {name}; at most {most}")
    return reasons + _signature_reasons(kernel, seen)


def _signature_reasons(kernel: Kernel, seen: Walked) -> list[str]:
    """The module's own signature must be the one that the kernel shows."""
    shown = Signature(
        tuple(Param(param.name, _as_tensor(param.type)) for param in kernel.signature.params), kernel.signature.result
    )
    if len(shown.params) != len(seen.params):
        return [f"it takes {len(seen.params)} arguments, and its signature shows {len(shown.params)}"]
    bindings, reasons = Bindings(), []
    for param, own in zip(shown.params, seen.params, strict=True):
        why = mismatch(own, param.type, bindings, param.name)
        if why:
            reasons.append(f"argument {param.name}: {why}")
    result = seen.results[0] if len(seen.results) == 1 else TupleOf(seen.results)
    why = mismatch(_as_tensor(kernel.signature.result), result, Bindings(), "result")
    return [*reasons, *([f"result: {why}"] if why else [])]


def _as_tensor(kind: Type) -> Type:
    dtype = {"bool": "bool", "int": "int64", "float": "float64"}.get(kind.name) if isinstance(kind, Scalar) else None
    return kind if dtype is None else Tensor(dtype, ())


def _wasm_reasons(kernel: Kernel, form: WasmForm) -> list[str]:
    _installed(form, kernel)
    reasons = []
    if not 0 < form.fuel <= WASM_FUEL_MAX:
        reasons.append(f"it asks for {form.fuel} units of fuel; at most {WASM_FUEL_MAX}")
    if not 0 < form.memory_bytes <= WASM_MEMORY_BYTES_MAX:
        reasons.append(f"it asks for {form.memory_bytes} bytes of memory; at most {WASM_MEMORY_BYTES_MAX}")
    seen = _walk("wasm", form.module)
    if seen.error:
        return [*reasons, seen.error]
    reasons += [f"it imports {name}; a kernel has nothing to reach for" for name in seen.imports]
    if seen.memory_bytes > form.memory_bytes:
        reasons.append(f"it begins with {seen.memory_bytes} bytes of memory, and asks for {form.memory_bytes}")
    from mycelium.polymer.forms.abi import wanted

    have = seen.exports.get(form.entry)
    want = wanted(kernel)
    if have is None:
        reasons.append(f"it exports no function {form.entry}")
    elif have != want:
        reasons.append(f"{form.entry} takes {have[0]} and gives {have[1]}; its signature needs {want[0]} and {want[1]}")
    return reasons
