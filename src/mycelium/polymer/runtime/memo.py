"""Results that are kept by (kernel, inputs), so that equal work is done once: for kernels that say `cache=True`.

They are kept as files of values are, so that reading one runs nothing. Never: keeps anything of a kernel that cannot be
written down, because its body could not be told from another one's.
"""

# A program's values may be of any type.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

import blake3
import msgspec

from mycelium.base.errors import Refused
from mycelium.base.limits import MEMO_BYTES_MAX
from mycelium.polymer.container import values
from mycelium.polymer.kernel import FusedForm, Kernel, LivePython, LiveXla, PythonForm
from mycelium.polymer.schema.records import fields_of, given_back
from mycelium.polymer.shipping import dumps

KERNEL_DIGITS = 32  # of a key: which kernel; the rest says which inputs


class Memo(Protocol):
    """Where results are kept. A result may be forgotten at any time; `put` and `get` are called under a pool's lock."""

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, value: bytes) -> None: ...

    def settle(self) -> None:
        """Wait until everything that was put is where it outlives this process, as far as that can be."""
        ...


class MemoryMemo:
    """Results in the memory of this process; the least recently used go first."""

    def __init__(self, bytes_max: int = MEMO_BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self.held: OrderedDict[str, bytes] = OrderedDict()
        self.size_bytes = 0
        self.lock = threading.Lock()

    def get(self, key: str) -> bytes | None:
        with self.lock:
            value = self.held.get(key)
            if value is not None:
                self.held.move_to_end(key)
            return value

    def put(self, key: str, value: bytes) -> None:
        if len(value) > self.bytes_max // 4:
            return  # one result must not push out all the others
        with self.lock:
            self.size_bytes += len(value) - len(self.held.pop(key, b""))
            self.held[key] = value
            while self.size_bytes > self.bytes_max:
                self.size_bytes -= len(self.held.popitem(last=False)[1])

    def settle(self) -> None:
        """There is nothing to wait for."""


class Keys:
    """The keys of calls of one kernel, and how its results are written and read."""

    def __init__(self, kernel: Kernel) -> None:
        self.name = kernel_key(kernel)
        self.live = next((form.function for form in kernel.forms if isinstance(form, LivePython)), None)

    def of(self, arguments: Sequence[Any]) -> str:
        hasher = blake3.blake3(self.name.encode())
        for argument in arguments:
            _feed(hasher, argument)
        return f"{self.name}{hasher.hexdigest()}"

    def written(self, value: Any) -> bytes | None:
        """The result as it is kept; None when it cannot be, and is computed again each time."""
        try:
            data = values.pack(value)
            if b"object{" in data and not _alike(value, self._value(data)):
                return None  # a record whose class the kernel's annotation does not tell
        except Refused:
            return None
        return data

    def read(self, data: bytes | None) -> list[Any]:
        """The result in a list; an empty one where there is none, or none that can be read."""
        try:
            return [] if data is None else [self._value(data)]
        except Refused:
            return []

    def _value(self, data: bytes) -> Any:
        value = values.read(data)
        return value if self.live is None else given_back(self.live, value)


class RunMemo:
    """A memo during one run: each kernel is written down once, at its first call."""

    def __init__(self, memo: Memo) -> None:
        self.memo = memo
        self.kernels: dict[str, Keys] = {}

    def keys(self, kernel: Kernel) -> Keys:
        """Errors: `Refused` when the kernel cannot be written down."""
        if kernel.name not in self.kernels:
            self.kernels[kernel.name] = Keys(kernel)
        return self.kernels[kernel.name]

    def get(self, keys: Keys, key: str) -> list[Any]:
        """The result in a list; an empty one where none is kept."""
        return keys.read(self.memo.get(key))

    def put(self, keys: Keys, key: str, value: Any) -> None:
        data = keys.written(value)
        if data is not None:
            self.memo.put(key, data)


def _alike(one: Any, other: Any) -> bool:
    """Whether two results have the same classes all the way down."""
    if type(one) is not type(other):
        return False
    fields = fields_of(one)
    if fields is not None:
        others = fields_of(other) or {}
        return fields.keys() == others.keys() and all(_alike(value, others[name]) for name, value in fields.items())
    if isinstance(one, dict):
        return all(map(_alike, one.values(), other.values())) and all(map(_alike, one, other))
    return not isinstance(one, list | tuple) or all(map(_alike, one, other))


def kernel_key(kernel: Kernel) -> str:
    """What tells a kernel from every other one, whatever it is called, as the beginning of its keys.

    Errors: `Refused` when the kernel cannot be written down.
    """
    hasher = blake3.blake3(str(kernel.signature).encode())
    _feed_forms(hasher, kernel)
    return hasher.hexdigest()[:KERNEL_DIGITS]


def _feed_forms(hasher: Any, kernel: Kernel) -> None:
    from mycelium.polymer.forms.python import capture

    for form in kernel.forms:
        if isinstance(form, LivePython | LiveXla):
            try:
                form = capture(form.function, kernel.name)
            except Refused as refused:
                refused.hint = (
                    "kernels with cache=True must be written down, so that a changed one is told from the old"
                )
                raise
        if isinstance(form, FusedForm):
            hasher.update(f"fused {len(form.members)} {form.steps}".encode())
            for member in form.members:
                _feed_forms(hasher, member)
            continue
        if isinstance(form, PythonForm):
            hasher.update(f"python {sys.version_info[:2]} ".encode())
        data = msgspec.msgpack.encode(form)
        hasher.update(f"form {len(data)} ".encode())
        hasher.update(data)


def _feed(hasher: Any, value: Any) -> None:
    """Equal values feed equal bytes; values of different types never do."""
    kind = type(value)
    if kind in (int, float, bool, str, bytes, type(None)):
        data = repr(value).encode() if kind is not bytes else value
    elif hasattr(value, "dtype") and hasattr(value, "tobytes") and not value.dtype.hasobject:
        hasher.update(f"array {kind.__name__} {value.dtype} {value.shape} ".encode())
        data = value.tobytes()
    elif kind in (list, tuple):
        hasher.update(f"{kind.__name__} {len(value)} ".encode())
        for item in value:
            _feed(hasher, item)
        return
    elif (pairs := value if kind is dict else fields_of(value)) is not None:
        hasher.update(f"{'dict' if kind is dict else f'record {kind.__qualname__}'} {len(pairs)} ".encode())
        for name, item in pairs.items():
            _feed(hasher, name)
            _feed(hasher, item)
        return
    else:
        data = dumps(value)
    hasher.update(f"{kind.__name__} {len(data)} ".encode())
    hasher.update(data)
