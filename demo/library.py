"""The real input: Python's standard library, cut into parts, one task of the array each."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

LEFT_OUT = {"test", "site-packages", "dist-packages", "__pycache__"}
HERE = Path(os.__file__).parent


class Part(NamedTuple):
    name: str
    files: list[str]


def parts() -> list[Part]:
    """Every package is a part; the modules that are in none are parts by their first letter."""
    found = [
        Part(package.parent.name, sorted(str(file.relative_to(HERE)) for file in package.parent.rglob("*.py")))
        for package in sorted(HERE.glob("*/__init__.py"))
        if package.parent.name not in LEFT_OUT
    ]
    alone: dict[str, list[str]] = {}
    for module in sorted(HERE.glob("*.py")):
        alone.setdefault(f"modules-{module.name.lstrip('_')[0].lower()}", []).append(module.name)
    found += [Part(name, files) for name, files in alone.items()]
    return [Part(part.name, [file for file in part.files if "/tests/" not in file]) for part in found]


def write(parts: list[Part], into: Path) -> None:
    """What the tasks read: which files belong to which index."""
    (into / "parts.json").write_text(json.dumps([part._asdict() for part in parts]))


def lines(part: Part) -> int:
    """Counted here, without the site: what its answer is held against."""
    return sum((HERE / file).read_bytes().count(b"\n") for file in part.files)
