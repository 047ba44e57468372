"""The throw-away process of `verify`: reads one module from its standard input and writes down what it saw.

Run as `python -m mycelium.polymer.forms.walk xla|wasm MEMORY_BYTES`. Never: runs what it reads.
"""

from __future__ import annotations

import resource
import sys
from typing import Any

import msgspec

from mycelium.polymer.forms.verify import Walked

_WIDTHS = {"i1": 1, "pred": 1, "bf16": 2, "index": 8}


def walk_xla(data: bytes) -> Walked:
    import jax
    from jax import export
    from jax.extend.mlir import ir
    from jax.extend.mlir.dialects import stablehlo

    from mycelium.polymer.forms.xla import parsing_context, signature_of

    jax.config.update("jax_platforms", "cpu")
    made = export.deserialize(bytearray(data))
    declared = signature_of(made)
    context = parsing_context()
    operations: dict[str, int] = {}
    custom_calls: list[str] = []
    sizes = {"constant": 0, "largest": 0}

    def see(operation: Any) -> Any:
        name = operation.name
        operations[name] = operations.get(name, 0) + 1
        if name == "stablehlo.custom_call":
            custom_calls.append(ir.StringAttr(operation.attributes["call_target_name"]).value)
        for result in operation.results:
            size = _tensor_bytes(ir, result.type)
            sizes["largest"] = max(sizes["largest"], size)
            if name == "stablehlo.constant":
                sizes["constant"] += size
        return ir.WalkResult.ADVANCE

    with context:
        module = stablehlo.deserialize_portable_artifact(context, made.mlir_module_serialized)
        module.operation.walk(see)
    result = declared.result
    return Walked(
        params=tuple(param.type for param in declared.params),
        results=result.items if hasattr(result, "items") else (result,),  # type: ignore[union-attr]
        platforms=tuple(made.platforms),
        devices=made.nr_devices,
        effects=tuple(str(effect) for effect in (*made.ordered_effects, *made.unordered_effects)),
        disabled_checks=tuple(str(check) for check in made.disabled_safety_checks),
        operations=operations,
        custom_calls=tuple(sorted(set(custom_calls))),
        constant_bytes=sizes["constant"],
        tensor_bytes=sizes["largest"],
    )


def _tensor_bytes(ir: Any, kind: Any) -> int:
    """Bytes of a tensor of fixed shape; of open dimensions one is counted."""
    if not isinstance(kind, ir.RankedTensorType):
        return 0
    size = 1
    for at in range(kind.rank):
        size *= 1 if kind.is_dynamic_dim(at) else kind.get_dim_size(at)
    name = str(kind.element_type)
    digits = "".join(letter for letter in name if letter.isdigit())
    bits = int(digits) if digits and name not in _WIDTHS else 8 * _WIDTHS.get(name, 1)
    return size * max(1, bits // 8) * (2 if name.startswith("complex") else 1)


def walk_wasm(data: bytes) -> Walked:
    import wasmtime

    from mycelium.polymer.forms.wasm import engine

    module = wasmtime.Module(engine(), data)
    exports, memory_bytes = {}, 0
    for export in module.exports:
        if isinstance(export.type, wasmtime.FuncType):
            params, results = (tuple(str(one) for one in side) for side in (export.type.params, export.type.results))
            exports[export.name] = (params, results)
        elif isinstance(export.type, wasmtime.MemoryType):
            memory_bytes = max(memory_bytes, export.type.limits.min * 65_536)
    imports = tuple(f"{one.module}.{one.name}" for one in module.imports)
    return Walked(imports=imports, exports=exports, memory_bytes=memory_bytes)


def main() -> None:
    kind, memory_bytes = sys.argv[1], int(sys.argv[2])
    data = sys.stdin.buffer.read()
    if kind == "wasm":
        memory_bytes *= 4  # wasmtime reserves address space that it never touches
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        seen = {"xla": walk_xla, "wasm": walk_wasm}[kind](data)
    except Exception as error:  # whatever the readers say of bytes that they cannot read
        seen = Walked(error=f"it cannot be read: {str(error).strip()[:300] or type(error).__name__}")
    sys.stdout.buffer.write(msgspec.json.encode(seen))


if __name__ == "__main__":
    main()
