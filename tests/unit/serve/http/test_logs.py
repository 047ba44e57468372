"""What is kept of a log keeps its place in the stream."""

from __future__ import annotations

from mycelium.serve.http.logs import _kept
from mycelium.store.memory import MemoryObjects


def test_a_kept_log_begins_where_its_first_byte_was():
    objects = MemoryObjects()
    digest = objects.put(b"newest")
    assert list(_kept(objects, digest, 100, 0)) == [(100, b"newest")]
    assert list(_kept(objects, digest, 100, 103)) == [(103, b"est")]
    assert list(_kept(objects, digest, 100, 106)) == []
    assert list(_kept(objects, None, 0, 0)) == []
