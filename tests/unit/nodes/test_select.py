"""Which nodes a selector accepts."""

from __future__ import annotations

import pytest

from mycelium.base.errors import Refused
from mycelium.base.limits import SELECTOR_TERMS_MAX
from mycelium.nodes.select import parse_terms, unmet

LABELS = {"arch": "aarch64", "gpu": "", "zone": "attic", "rack.io/slot": "3"}


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("", []),
        ("arch=arm64", []),
        ("arch=aarch64,gpu", []),
        ("arch!=amd64", []),
        ("arch=amd64", ["arch=x86_64"]),
        ("!gpu", ["!gpu"]),
        ("!virtual", []),
        ("virtual", ["virtual"]),
        ("zone!=attic,gpu", ["zone!=attic"]),
        ("color!=blue", []),
        (" zone=attic , rack.io/slot=3 ,", []),
    ],
)
def test_a_selector_names_what_is_not_met(text: str, missing: list[str]) -> None:
    assert unmet(parse_terms(text), LABELS) == missing


@pytest.mark.parametrize("text", ["=x", "!arch=x", "a b", "a=", "a==b", "a=b=c", "-a", "a=b\nc", "x" * 200])
def test_what_is_no_term_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="is not a selector term"):
        parse_terms(text)


def test_there_is_an_end_to_terms() -> None:
    with pytest.raises(Refused, match=f"at most {SELECTOR_TERMS_MAX}"):
        parse_terms(",".join(["gpu"] * (SELECTOR_TERMS_MAX + 1)))
