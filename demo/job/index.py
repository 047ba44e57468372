"""Indexes one part of Python's standard library: its modules, what they define, their words and lines.

Runs as a task of a job array: `MYC_ARRAY_INDEX` says which part. Reads parts.json, writes index/PART.json.
"""

from __future__ import annotations

import ast
import io
import json
import os
import re
import sys
import tokenize
from collections import Counter
from pathlib import Path

WORD = re.compile(r"[A-Za-z]{4,}")
SPOKEN = (tokenize.COMMENT, tokenize.STRING)  # where people speak to people


def main() -> None:
    part = json.loads(Path("parts.json").read_text())[int(os.environ["MYC_ARRAY_INDEX"])]
    library = Path(sys.modules["os"].__file__ or "").parent
    words: Counter[str] = Counter()
    modules = {}
    for name in part["files"]:
        source = (library / name).read_bytes()
        modules[name] = describe(source, words)
    found = {"part": part["name"], "modules": modules, "words": dict(words.most_common(200))}
    Path("index").mkdir()
    Path("index", f"{part['name']}.json").write_text(json.dumps(found))
    definitions = sum(len(module["definitions"]) for module in modules.values())
    print(f"{part['name']}: {len(modules)} modules, {definitions} definitions")


def describe(source: bytes, words: Counter[str]) -> dict[str, object]:
    """One module: its lines, its definitions with the lines they begin on, and its words counted into `words`."""
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        if token.type in SPOKEN:
            words.update(word.lower() for word in WORD.findall(token.string))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    definitions = {node.name: node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)}
    return {"lines": source.count(b"\n"), "definitions": definitions}


if __name__ == "__main__":
    main()
