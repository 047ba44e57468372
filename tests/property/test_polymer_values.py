"""Laws of values that travel: what is packed reads back as it was, and what was altered is refused."""

from __future__ import annotations

from typing import Any

import numpy
from hypothesis import given
from hypothesis import strategies as st

from mycelium.base.errors import Refused
from mycelium.polymer.container import values
from mycelium.polymer.schema.records import Loose

PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 200), 1 << 200)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.builds(numpy.float32, st.floats(width=32, allow_nan=False))
    | st.builds(numpy.int8, st.integers(-128, 127))
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.dictionaries(st.text(), inner).map(Loose)
    ),
    max_leaves=20,
)


def classes(value: Any) -> Any:
    """The classes of a value and of everything in it."""
    if isinstance(value, list | tuple):
        return type(value), [classes(one) for one in value]
    if isinstance(value, dict):
        return type(value), [(classes(key), classes(one)) for key, one in value.items()]
    return (type(value), classes(value._fields)) if isinstance(value, Loose) else type(value)


@given(VALUES)
def test_what_is_packed_reads_back_as_it_was(value: Any) -> None:
    back = values.read(values.pack(value))
    assert back == value
    assert classes(back) == classes(value)
    assert repr(back) == repr(value)  # -0.0 is no 0.0


@given(VALUES, st.data())
def test_what_was_altered_is_refused(value: Any, data: st.DataObject) -> None:
    packed = values.pack(value)
    at = data.draw(st.integers(0, len(packed) - 1))
    altered = bytearray(packed)
    altered[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        values.read(bytes(altered))
    except Refused:
        return
    raise AssertionError("an altered file of values was read")
