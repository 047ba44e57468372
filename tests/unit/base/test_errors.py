"""The six kinds of error."""

from __future__ import annotations

import pytest

from mycelium.base.errors import KINDS, Fault, Problem, Refused, Unknown, refuse


def test_the_table_is_the_designs() -> None:
    assert {name: (kind.http, kind.exit) for name, kind in KINDS.items()} == {
        "refused": (400, 2),
        "missing": (404, 3),
        "denied": (403, 4),
        "conflict": (409, 5),
        "exhausted": (429, 6),
        "unavailable": (503, 7),
    }


def test_who_shows_no_token_is_denied_with_a_status_of_its_own() -> None:
    assert (Unknown("x").kind, Unknown("x").http, Unknown("x").exit) == ("denied", 401, 4)


def test_every_kind_is_a_problem_with_a_body() -> None:
    for name, kind in KINDS.items():
        assert issubclass(kind, Problem)
        assert kind("too much", hint="less").body() == {"error": {"kind": name, "message": "too much", "hint": "less"}}


def test_no_fault_is_no_refusal() -> None:
    refuse([])


def test_one_fault_is_said_plainly() -> None:
    with pytest.raises(Refused) as refused:
        refuse([Fault("cpus", "is 0", "ask for more")])
    assert (refused.value.message, refused.value.hint) == ("cpus: is 0", "ask for more")


def test_many_faults_are_said_at_once() -> None:
    with pytest.raises(Refused) as refused:
        refuse([Fault("cpus", "is 0", "ask for more"), Fault("", "is empty")])
    assert refused.value.message == "2 mistakes:\n  cpus: is 0 (ask for more)\n  is empty"
    assert [fault.where for fault in refused.value.faults] == ["cpus", ""]
