"""The numbers of what seats are told once: kernels, and values that many batches need.

Never: keeps a shared value alive; a kernel is kept until there are too many.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator

from mycelium.base.limits import POOL_KERNELS_MAX
from mycelium.polymer.kernel import Kernel
from mycelium.polymer.runtime.pool import Shared


class Known:
    def __init__(self) -> None:
        self._numbers: dict[int, tuple[Kernel | None, int]] = {}  # by id: what keeps a kernel, its number
        self._forgotten: deque[int] = deque()  # values end in any thread
        self._next = 1

    def of(self, thing: Kernel | Shared) -> int | None:
        """Its number, if it has one."""
        entry = self._numbers.get(id(thing))
        return None if entry is None else entry[1]

    def number(self, thing: Kernel | Shared) -> int:
        """Its number, if need be a new one."""
        entry = self._numbers.get(id(thing))
        return self._enter(thing) if entry is None else entry[1]

    def _enter(self, thing: Kernel | Shared) -> int:
        number, self._next = self._next, self._next + 1
        if isinstance(thing, Shared):
            self._numbers[id(thing)] = (None, number)
            weakref.finalize(thing, self._forget, id(thing), number).atexit = False
            return number
        if len(self._numbers) >= POOL_KERNELS_MAX:
            oldest = next((key for key, (held, _) in self._numbers.items() if held is not None), None)
            if oldest is not None:
                self._forget(oldest, self._numbers[oldest][1])
        self._numbers[id(thing)] = (thing, number)
        return number

    def _forget(self, key: int, number: int) -> None:
        self._numbers.pop(key, None)
        self._forgotten.append(number)

    def __bool__(self) -> bool:
        """Whether something is to be forgotten."""
        return bool(self._forgotten)

    def forgotten(self) -> Iterator[int]:
        """Numbers that mean nothing any more, each once."""
        while self._forgotten:
            yield self._forgotten.popleft()
