"""Memory that two processes share: anonymous files that the kernel frees when the last holder is gone, however it went.

What is received is mapped read-only and used in place. A mapped region that is sent on is not copied again: its file
is. Never: leaves a name in a file system, so there is nothing to leak.
"""

from __future__ import annotations

import bisect
import ctypes
import fcntl
import itertools
import mmap
import os
import weakref
from collections.abc import Sequence
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)

ALIGN = 64  # so that what jax gets can be used where it lies
_MAP_POPULATE = 0x8000
KEEP_BYTES_MIN = 1 << 20  # smaller regions are cheaper to copy than to keep a descriptor for
KEEP_COUNT_MAX = 128  # descriptors kept for sending on; a process has 1,024 by default
_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # F_SEAL_SEAL, _SHRINK, _GROW, _WRITE: nobody can change what others have mapped
_ADD_SEALS = 1033
_origin, _numbers = os.urandom(6).hex(), itertools.count()  # a name for each file, which no other file will have


class _KeptRegion:
    """Regions of this process that other processes can map too: (start, size, descriptor), sorted by start."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.held: dict[int, tuple[int, int]] = {}

    def add(self, start: int, size: int, fd: int) -> None:
        bisect.insort(self.starts, start)
        self.held[start] = (size, fd)

    def find(self, start: int, size: int) -> tuple[int, int] | None:
        """The descriptor and offset of a region that holds these bytes."""
        at = bisect.bisect_right(self.starts, start) - 1
        if at < 0:
            return None
        begin = self.starts[at]
        length, fd = self.held[begin]
        return (fd, start - begin) if start + size <= begin + length else None

    def drop(self, start: int) -> None:
        if start in self.held:
            self.starts.remove(start)
            os.close(self.held.pop(start)[1])


kept = _KeptRegion()


def create(parts: Sequence[Any]) -> tuple[int, list[int]]:
    """An anonymous file that holds the parts one after the other, aligned and sealed; the offset of each.

    Errors: `Exhausted` when the memory is full.
    """
    fd = os.memfd_create(f"mycelium-{_origin}-{next(_numbers)}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    offsets: list[int] = []
    at = 0
    try:
        for part in parts:
            at = -(-at // ALIGN) * ALIGN
            offsets.append(at)
            view = memoryview(part).cast("B")
            done = 0
            while done < len(view):
                done += os.pwrite(fd, view[done:], at + done)
            at += len(view)
        fcntl.fcntl(fd, _ADD_SEALS, _SEALS)
    except OSError as error:
        os.close(fd)
        raise _exhausted(f"no memory to share {at} bytes: {error.strerror}") from error
    return fd, offsets


def attach(fd: int, keep: bool = True) -> memoryview:
    """The whole file, read-only, in place. Takes over `fd`."""
    size = os.fstat(fd).st_size
    if size == 0:
        os.close(fd)
        return memoryview(b"")
    start = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    if start in (None, ctypes.c_void_p(-1).value):
        os.close(fd)
        raise _exhausted(f"no address space for {size} shared bytes")
    region = (ctypes.c_ubyte * size).from_address(start)
    if keep and size >= KEEP_BYTES_MIN and len(kept.starts) < KEEP_COUNT_MAX:
        kept.add(start, size, fd)
        weakref.finalize(region, _release, start, size).atexit = False
    else:
        os.close(fd)
        weakref.finalize(region, _libc.munmap, start, size).atexit = False
    return memoryview(region).cast("B").toreadonly()


def _exhausted(message: str) -> Exception:
    from mycelium.base.errors import Exhausted  # late: workers wait for every import

    return Exhausted(message, hint="the memory of this machine is full, or limited for this process")


def _release(start: int, size: int) -> None:
    kept.drop(start)
    _libc.munmap(start, size)


def address(buffer: memoryview) -> int:
    """Where the bytes lie."""
    if buffer.readonly:
        import numpy

        return int(numpy.frombuffer(buffer, numpy.uint8).__array_interface__["data"][0])
    return ctypes.addressof(ctypes.c_ubyte.from_buffer(buffer))


def share(value: Any) -> Any:
    """A copy of an array that lies in shared memory: sending it to workers copies nothing."""
    import numpy

    array = numpy.ascontiguousarray(value)
    if array.nbytes < KEEP_BYTES_MIN or kept.find(array.ctypes.data, array.nbytes):
        return value
    fd, _ = create([array])
    return numpy.frombuffer(attach(fd), array.dtype).reshape(array.shape)
