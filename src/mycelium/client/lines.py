"""On which line of a TOML file a key is written: so that a mistake can be pointed at.

Never: parses TOML. It is asked about files that were parsed before.
"""

from __future__ import annotations

import re


def line_of(text: str, key: str) -> int | None:
    """The line on which a key is written, or its table begins; None when it is not written at all.

    `env.SEED` is the key SEED of the table `env`; where only the table is found, that is the answer.
    """
    table, dot, inner = key.partition(".")
    lines = text.splitlines()
    begun = _line(lines, key) or (_line(lines, table) if dot else None)
    if not dot or begun is None:
        return begun
    dotted = re.compile(rf"\s*{_either(table)}\s*\.\s*{_either(inner)}\s*=")
    within = False
    for number, line in enumerate(lines, start=1):
        if re.match(r"\s*\[", line):
            within = re.match(rf"\s*\[\s*{_either(table)}\s*\]", line) is not None
        elif (within and re.match(rf"\s*{_either(inner)}\s*=", line)) or dotted.match(line):
            return number
    return begun


def _line(lines: list[str], key: str) -> int | None:
    written = re.compile(rf"\s*(?:{_either(key)}\s*(?:=|\.)|\[+\s*{_either(key)}\s*[\].])")
    return next((number for number, line in enumerate(lines, start=1) if key and written.match(line)), None)


def _either(key: str) -> str:
    """A key as it may be written: bare, or in quotes."""
    name = re.escape(key)
    return rf"(?:{name}|\"{name}\"|'{name}')"
