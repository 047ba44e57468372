"""One `.gitignore` file: its lines as rules, matched exactly as Git matches them.

A rule is asked about one path at a time, from the top down, and answers for that path alone. (Libraries that answer for
whole paths at once let a rule for a directory speak for all below it: `!*/` then takes back files that Git ignores.)

Source: gitignore(5); Git's dir.c and wildmatch.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": "\\s",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}
_NOTHING = "(?!)"


class IgnoreRule(NamedTuple):
    ignores: bool  # False: takes back what an earlier rule ignored
    only_directories: bool
    by_name: bool  # matches the last name of a path instead of all of it
    pattern: re.Pattern[str]


class Gitignore:
    def __init__(self, lines: Iterable[str]) -> None:
        self._rules = [rule for line in lines if (rule := _rule(line))][::-1]

    def ignores(self, path: str, *, is_directory: bool) -> bool | None:
        """What the last rule that matches `path` says; None when no rule does. `path` begins where the file lies."""
        name = path.rpartition("/")[2]
        for rule in self._rules:
            if rule.only_directories and not is_directory:
                continue
            if rule.pattern.fullmatch(name if rule.by_name else path):
                return rule.ignores
        return None


def _rule(line: str) -> IgnoreRule | None:
    text = _without_trailing_spaces(line.removesuffix("\r"))
    if not text or text.startswith("#"):
        return None
    ignores = not text.startswith("!")
    text = text if ignores else text[1:]
    only_directories = text.endswith("/")
    text = text.removesuffix("/")
    by_name = "/" not in text
    return IgnoreRule(ignores, only_directories, by_name, re.compile(_translate(text.removeprefix("/")), re.DOTALL))


def _without_trailing_spaces(line: str) -> str:
    text = line.rstrip(" ")
    backslashes = len(text) - len(text.rstrip("\\"))
    return line[: len(text) + 1] if backslashes % 2 else text  # a space with a backslash before it is meant


def _translate(glob: str) -> str:
    """The regular expression of a glob; one that matches nothing where Git would match nothing."""
    parts: list[str] = []
    at = 0
    while at < len(glob):
        char = glob[at]
        if char == "*":
            part, at = _stars(glob, at)
        elif char == "?":
            part, at = "[^/]", at + 1
        elif char == "[":
            part, at = _bracket(glob, at + 1)
        elif char == "\\":
            part, at = (re.escape(glob[at + 1]) if at + 1 < len(glob) else _NOTHING), at + 2
        else:
            part, at = re.escape(char), at + 1
        parts.append(part)
    return "".join(parts)


def _stars(glob: str, at: int) -> tuple[str, int]:
    end = at
    while end < len(glob) and glob[end] == "*":
        end += 1
    whole = end - at > 1 and (at == 0 or glob[at - 1] == "/") and (end == len(glob) or glob[end] == "/")
    if not whole:
        return "[^/]*", end
    if end == len(glob):
        return ".*", end
    return "(?:.*/)?", end + 1


def _bracket(glob: str, at: int) -> tuple[str, int]:
    """The expression of what follows a `[`, and where it ends."""
    negated = glob[at : at + 1] in ("!", "^")
    at += negated
    members: list[str] = []
    first = at
    while at < len(glob) and (glob[at] != "]" or at == first):
        if glob.startswith("[:", at) and (end := glob.find(":]", at)) > 0:
            if glob[at + 2 : end] not in _CLASSES:
                return _NOTHING, len(glob)
            members.append(_CLASSES[glob[at + 2 : end]])
            at = end + 2
            continue
        low, at = _member(glob, at)
        members.append(re.escape(low))  # also where a range follows that is empty, such as in [b-a]
        if glob.startswith("-", at) and at + 1 < len(glob) and glob[at + 1] != "]":
            high, at = _member(glob, at + 1)
            if low and low <= high:
                members.append(f"{re.escape(low)}-{re.escape(high)}")
    if at >= len(glob):
        return _NOTHING, at
    if not members:
        return ("[^/]" if negated else _NOTHING), at + 1
    return f"(?!/)[{'^' * negated}{''.join(members)}]", at + 1


def _member(glob: str, at: int) -> tuple[str, int]:
    if glob[at] == "\\":
        return glob[at + 1 : at + 2], at + 2
    return glob[at], at + 1
