"""The WebAssembly form: a function over numbers and bytes, without any way to reach out of itself.

Every call gets the fuel and memory that the form states and no more; the fuel used is the same on every machine. NaNs
are made canonical, so that results have the same bits everywhere. Never: gives a module imports, or reads compiled
code.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import wasmtime

from mycelium.base.errors import Exhausted, Refused
from mycelium.polymer.forms.abi import wanted
from mycelium.polymer.kernel import Kernel, WasmForm
from mycelium.polymer.schema.types import Scalar


@functools.cache
def engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    config.consume_fuel = True
    config.cranelift_nan_canonicalization = True
    config.wasm_threads = False
    config.wasm_relaxed_simd = False
    return wasmtime.Engine(config)


def binary(text: str) -> bytes:
    """WebAssembly from its text form. Errors: `Refused` where the text is wrong."""
    try:
        return bytes(wasmtime.wat2wasm(text))
    except wasmtime.WasmtimeError as error:
        raise Refused(f"the WebAssembly text cannot be read: {error!s:.300}") from error


def instantiate(form: WasmForm, kernel: Kernel) -> Callable[..., Any]:
    """A callable over Python values. Errors: `Refused` when the module does not offer what the signature needs."""
    try:
        module = wasmtime.Module(engine(), form.module)
    except wasmtime.WasmtimeError as error:
        raise Refused(f"kernel {kernel.name}: its wasm form cannot be read: {error!s:.200}") from error
    return _Instance(form, kernel, module)


class _Instance:
    """One module, instantiated when it is called; each call starts from the module's own first state."""

    def __init__(self, form: WasmForm, kernel: Kernel, module: wasmtime.Module) -> None:
        self.form, self.kernel, self.module = form, kernel, module
        self._check()
        self.linker = wasmtime.Linker(engine())

    def _check(self) -> None:
        name, entry, want = self.kernel.name, self.form.entry, wanted(self.kernel)
        for one in self.module.imports:
            raise Refused(
                f"kernel {name}: its wasm form imports {one.module}.{one.name}; there is nothing to reach for"
            )
        kind = next((one.type for one in self.module.exports if one.name == entry), None)
        if not isinstance(kind, wasmtime.FuncType):
            raise Refused(f"kernel {name}: its wasm form exports no function {entry}")
        have = tuple(map(str, kind.params)), tuple(map(str, kind.results))
        if have != want:
            raise Refused(
                f"kernel {name}: its wasm form takes {have[0]} and gives {have[1]}; "
                f"its signature needs {want[0]} and {want[1]}"
            )

    def __call__(self, *arguments: Any) -> Any:
        store = wasmtime.Store(engine())
        store.set_limits(memory_size=self.form.memory_bytes, instances=1, memories=1, tables=4)
        store.set_fuel(self.form.fuel)
        try:
            exports = self.linker.instantiate(store, self.module).exports(store)
            words = self._enter(store, exports, arguments)
            return self._leave(store, exports, self._function(exports, self.form.entry)(store, *words))
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            raise self._said(error, store) from None

    def _function(self, exports: Any, name: str) -> Any:
        found = exports.get(name)
        if not isinstance(found, wasmtime.Func):
            raise Refused(f"kernel {self.kernel.name}: its wasm form exports no function {name}")
        return found

    def _memory(self, exports: Any) -> wasmtime.Memory:
        found = exports.get("memory")
        if not isinstance(found, wasmtime.Memory):
            raise Refused(f"kernel {self.kernel.name}: its wasm form exports no memory for bytes and strings")
        return found

    def _enter(self, store: wasmtime.Store, exports: Any, arguments: tuple[Any, ...]) -> list[Any]:
        words: list[Any] = []
        for param, argument in zip(self.kernel.signature.params, arguments, strict=True):
            assert isinstance(param.type, Scalar)
            if param.type.name in ("bytes", "str"):
                data = argument.encode() if isinstance(argument, str) else bytes(argument)
                at = self._function(exports, "alloc")(store, len(data))
                self._bounds(store, exports, at, len(data))
                self._memory(exports).write(store, data, at)
                words += [at, len(data)]
            elif param.type.name == "float":
                words.append(float(argument))
            else:
                if not -(1 << 63) <= int(argument) < 1 << 63:
                    raise Refused(f"kernel {self.kernel.name}, argument {param.name}: {argument} does not fit 64 bits")
                words.append(int(argument))
        return words

    def _leave(self, store: wasmtime.Store, exports: Any, result: Any) -> Any:
        kind = self.kernel.signature.result
        assert isinstance(kind, Scalar)
        if kind.name in ("bytes", "str"):
            at, size = result & 0xFFFFFFFF, (result >> 32) & 0xFFFFFFFF
            self._bounds(store, exports, at, size)
            data = bytes(self._memory(exports).read(store, at, at + size))
            return data if kind.name == "bytes" else data.decode()
        return bool(result) if kind.name == "bool" else result

    def _bounds(self, store: wasmtime.Store, exports: Any, at: int, size: int) -> None:
        have = self._memory(exports).data_len(store)
        if at < 0 or at + size > have:
            raise Refused(f"kernel {self.kernel.name} named {size} bytes at {at} of its memory of {have}")

    def _said(self, error: Exception, store: wasmtime.Store) -> Exception:
        if store.get_fuel() == 0 or "all fuel consumed" in str(error):
            return Exhausted(
                f"kernel {self.kernel.name} used its {self.form.fuel} units of fuel", hint="give it more, or less to do"
            )
        first = str(error).strip()
        if "memory minimum size" in first or "exceeds memory limits" in first:
            return Exhausted(f"kernel {self.kernel.name} needs more than its {self.form.memory_bytes} bytes of memory")
        return RuntimeError(f"kernel {self.kernel.name} stopped: {first.splitlines()[-1]:.200}")
