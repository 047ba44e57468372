"""Selectors: which nodes a request accepts, as people write them (`arch=arm64,gpu,!virtual,zone!=attic`).

Terms are joined by commas and all must hold. Never: knows more of a node than its labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from mycelium.base.errors import Refused
from mycelium.base.limits import SELECTOR_TERMS_MAX

_KEY = r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,62}"
_TERM = re.compile(rf"(?P<absent>!)?(?P<key>{_KEY})(?:(?P<op>!?=)(?P<value>[A-Za-z0-9_.:+/-]{{1,128}}))?")

# What people call an architecture, and what the kernel calls it.
ARCHITECTURES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}


def parse_terms(text: str) -> tuple[str, ...]:
    """The terms of a selector, checked and in their written order; architecture names are made the kernel's."""
    terms = tuple(term.strip() for term in text.split(",") if term.strip())
    if len(terms) > SELECTOR_TERMS_MAX:
        raise Refused(f"a selector has {len(terms)} terms; at most {SELECTOR_TERMS_MAX} are allowed")
    return tuple(_normal(term) for term in terms)


def _normal(term: str) -> str:
    match = _TERM.fullmatch(term)
    if match is None or (match["absent"] and match["op"]):
        raise Refused(f"{term[:80]!r} is not a selector term", hint="write key=value, key!=value, key or !key")
    if match["key"] == "arch" and match["op"]:
        return f"arch{match['op']}{ARCHITECTURES.get(match['value'], match['value'])}"
    return term


def unmet(terms: Iterable[str], labels: Mapping[str, str]) -> list[str]:
    """The terms that these labels do not satisfy."""
    return [term for term in terms if not _holds(term, labels)]


def _holds(term: str, labels: Mapping[str, str]) -> bool:
    if term.startswith("!"):
        return term[1:] not in labels
    if "!=" in term:
        key, value = term.split("!=", 1)
        return labels.get(key) != value
    if "=" in term:
        key, value = term.split("=", 1)
        return labels.get(key) == value
    return term in labels
