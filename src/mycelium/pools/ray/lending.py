"""Large values that several workers are sent, packed or copied into shared memory once, so that Ray has them once.

Never: outlives what it stands for. A copy ends with the last batch that has it, a packed value with the value.
"""

from __future__ import annotations

import os
import sys
import weakref
from typing import Any

from mycelium.polymer.runtime.pool import Shared
from mycelium.pools.local import memory, wire


class Loan:
    """A large array and its copy in shared memory. It keeps the array, so that no other one gets its id."""

    __slots__ = ("__weakref__", "copy", "value")

    def __init__(self, value: Any) -> None:
        self.value, self.copy = value, memory.share(value)


class Lending:
    def __init__(self) -> None:
        self._loans: weakref.WeakValueDictionary[int, Loan] = weakref.WeakValueDictionary()
        self._packed: weakref.WeakKeyDictionary[Shared, wire.Packet] = weakref.WeakKeyDictionary()

    def lend(self, value: Any) -> Loan | None:
        """While one batch that has the array is under way, others are sent the same; None for what is sent as it is."""
        numpy = sys.modules.get("numpy")
        if numpy is None or type(value) is not numpy.ndarray or value.nbytes < memory.KEEP_BYTES_MIN:
            return None
        if value.dtype.hasobject:
            return None
        loan = self._loans.get(id(value))
        if loan is None:
            loan = self._loans[id(value)] = Loan(value)
        return loan

    def packed(self, number: int, shared: Shared) -> wire.Packet:
        """The packet that tells a worker this value, to be sent once."""
        packet = self._packed.get(shared)
        if packet is None:
            packet = self._packed[shared] = wire.encode(wire.SHARED, shared.value, number)
            weakref.finalize(shared, packet.close).atexit = False
        fds = [os.dup(fd) for fd in packet.fds]
        return wire.Packet(packet.data, fds, fds)
