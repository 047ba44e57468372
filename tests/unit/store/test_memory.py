from __future__ import annotations

import pytest

from mycelium.base.errors import Exhausted
from mycelium.store.memory import MemoryObjects


def test_memory_is_bounded_and_says_so():
    objects = MemoryObjects(10)
    first = objects.put(b"123456")
    with pytest.raises(Exhausted, match="holds 6B of at most 10B"):
        objects.put(b"abcdef")
    objects.put(b"123456")  # it is here: that needs no room
    objects.delete(first)
    objects.put(b"abcdef")
