"""One name is one thing: whoever reads the name of a class knows which one is meant, wherever it stands."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import mycelium

SRC = Path(mycelium.__file__).parent


def test_no_two_classes_share_a_name() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in sorted(SRC.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path.relative_to(SRC)}:{node.lineno}")
    assert len(places) > 100  # it has looked where the classes are
    assert {name: there for name, there in places.items() if len(there) > 1} == {}
