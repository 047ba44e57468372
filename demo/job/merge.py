"""Merges the indices that the array's tasks left into one: inputs/JOB/INDEX/index/PART.json becomes library.json."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path


def main() -> None:
    words: Counter[str] = Counter()
    parts = {}
    where: dict[str, list[str]] = {}
    for path in sorted(Path("inputs").glob("*/*/index/*.json")):
        found = json.loads(path.read_text())
        words.update(found["words"])
        modules = found["modules"]
        parts[found["part"]] = {
            "modules": len(modules),
            "definitions": sum(len(module["definitions"]) for module in modules.values()),
            "lines": sum(module["lines"] for module in modules.values()),
        }
        for name, module in modules.items():
            for definition, line in module["definitions"].items():
                where.setdefault(definition, []).append(f"{name}:{line}")
    merged = {"parts": parts, "words": dict(words.most_common(20)), "where": where}
    Path("library.json").write_text(json.dumps(merged))
    print(f"{len(parts)} parts, {len(where)} names")


if __name__ == "__main__":
    main()
