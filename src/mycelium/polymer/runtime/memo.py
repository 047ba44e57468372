"""Results that are kept by (kernel, inputs), so that equal work is done once: for kernels that say `cache=True`.

Never: keeps anything of a kernel that cannot be written down, because its body could not be told from another one's.
"""

from __future__ import annotations

import pickle
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

import blake3

from mycelium.base.errors import Refused
from mycelium.base.limits import MEMO_BYTES_MAX
from mycelium.polymer.kernel import Kernel, LivePython, LiveXla
from mycelium.polymer.shipping import dumps


class Memo(Protocol):
    """Where results are kept. A result may be forgotten at any time."""

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, value: bytes) -> None: ...


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


class Keys:
    """The keys of calls of one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self.body = _body(kernel)

    def of(self, arguments: Sequence[Any]) -> str:
        hasher = blake3.blake3(self.body)
        for argument in arguments:
            _feed(hasher, argument)
        return hasher.hexdigest()


def _body(kernel: Kernel) -> bytes:
    """Errors: `Refused` when the kernel cannot be written down."""
    from mycelium.polymer.forms.python import capture

    hasher = blake3.blake3(kernel.name.encode())
    for form in kernel.forms:
        if isinstance(form, LivePython | LiveXla):
            try:
                form = capture(form.function, kernel.name)
            except Refused as refused:
                refused.hint = (
                    "kernels with cache=True must be written down, so that a changed one is told from the old"
                )
                raise
        hasher.update(pickle.dumps(form, protocol=5))
    return hasher.digest()


def _feed(hasher: Any, value: Any) -> None:
    """Equal values feed equal bytes; values of different types never do."""
    kind = type(value)
    if kind in (int, float, bool, str, bytes, type(None)):
        data = repr(value).encode() if kind is not bytes else value
    elif hasattr(value, "dtype") and hasattr(value, "tobytes") and not value.dtype.hasobject:
        hasher.update(f"array {value.dtype} {value.shape} ".encode())
        data = value.tobytes()
    elif kind in (list, tuple):
        hasher.update(f"{kind.__name__} {len(value)} ".encode())
        for item in value:
            _feed(hasher, item)
        return
    else:
        data = dumps(value)
    hasher.update(f"{kind.__name__} {len(data)} ".encode())
    hasher.update(data)


def written(value: Any) -> bytes | None:
    """The result as it is kept; None when it cannot be."""
    try:
        return dumps(value)
    except Exception:  # a result that cannot be written down is computed again each time
        return None


def read(data: bytes) -> Any:
    return pickle.loads(data)
