"""What the door makes of what the throw-away process said."""

from __future__ import annotations

import msgspec
import pytest

from mycelium.base.errors import Denied, Refused
from mycelium.serve.http.programs import _judge


def test_a_check_that_came_to_no_end_is_a_refusal() -> None:
    for said in (b"", b"Killed", b"[1]"):
        with pytest.raises(Refused, match="could not be looked at"):
            _judge(said)


def test_what_was_refused_is_refused_with_its_kind_and_hint() -> None:
    with pytest.raises(Denied, match="not signed") as denied:
        _judge(msgspec.json.encode(Denied("not signed", hint="sign it").body()))
    assert denied.value.hint == "sign it"


def test_what_was_accepted_passes_with_the_kernels_whose_results_are_kept() -> None:
    assert _judge(b'{"name":"index","kept":["ab"]}') == ["ab"]
