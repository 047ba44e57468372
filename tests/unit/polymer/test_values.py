"""Values as files: read(pack(x)) == x, and nothing else is read."""

from __future__ import annotations

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycelium.base.errors import Refused
from mycelium.polymer.container import values

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@given(plain)
def test_reading_gives_back_what_was_packed(value: object) -> None:
    found = values.read(values.pack(value))
    assert found == value and type(found) is type(value)


def test_arrays_come_back_with_their_type_and_shape() -> None:
    arrays = {"a": numpy.arange(12, dtype="float32").reshape(3, 4).T, "b": [numpy.zeros((0, 2), "int64")]}
    found = values.read(values.pack(arrays))
    assert found["a"].dtype == "float32" and (found["a"] == arrays["a"]).all()
    assert found["b"][0].shape == (0, 2)


def test_what_has_no_text_is_refused_with_its_type() -> None:
    with pytest.raises(Refused, match="type object"):
        values.pack([object()])


def test_a_file_that_was_altered_or_cut_at_any_byte_is_refused() -> None:
    whole = values.pack({"x": [1, "two", numpy.arange(3)]})
    for at in range(len(whole)):
        with pytest.raises(Refused):
            values.read(whole[:at])
        with pytest.raises(Refused):
            values.read(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])


@pytest.mark.parametrize("text", [b"[1, 2", b"1 2", b"[" * 100, b"tensor float32[2] @" + b"0" * 64, b"\xff"])
def test_what_is_no_literal_is_refused_though_its_checksum_is_right(text: bytes) -> None:
    import struct

    import blake3

    body = values.MAGIC + struct.pack(">I", len(text)) + text + struct.pack(">I", 0)
    with pytest.raises(Refused):
        values.read(body + blake3.blake3(body).digest())


def test_hostile_lengths_are_refused() -> None:
    import struct

    import blake3

    for tail in (struct.pack(">I", 1 << 31), struct.pack(">I", 1) + struct.pack(">Q", 1 << 60), b""):
        body = values.MAGIC + struct.pack(">I", 4) + b"none" + tail
        with pytest.raises(Refused):
            values.read(body + blake3.blake3(body).digest())
