"""What Git would not take: `.git` itself and whatever `.gitignore` files name.

The `.gitignore` files of all directories count, also those above the working directory up to the top of its repository,
and the repository's `info/exclude`. A deeper file outweighs a higher one; below an ignored directory nothing is seen.

Never: asks Git, which may not be there.
"""

from __future__ import annotations

import os
from pathlib import Path

from pathspec import GitIgnoreSpec

from mycelium.base import limits
from mycelium.store.below import Below
from mycelium.store.survey import Choice

# The files that count for a directory, the weightiest first: each with where it lies, "" or "a/b/" below the top.
_Chain = tuple[tuple[str, GitIgnoreSpec], ...]


class Everything:
    """Chooses all but `.git`."""

    def enter(self, path: str, below: Below) -> None:
        return

    def choose(self, path: str, *, is_directory: bool) -> Choice:
        return Choice.LEAVE if path.rpartition("/")[2] == ".git" else Choice.TAKE


class Ignore:
    """Chooses what Git would take below `root`."""

    def __init__(self, root: Path) -> None:
        self._prefix, above = _above(root.resolve())
        if self._prefix and _is_ignored(above, self._prefix):
            above = ()  # who works in an ignored directory means what is in it
        self._chains: dict[str, _Chain] = {}
        self._above = above

    def enter(self, path: str, below: Below) -> None:
        chain = self._chains[path.rpartition("/")[0]] if path else self._above
        try:
            fd = below.open_file(f"{path}/.gitignore" if path else ".gitignore")
        except OSError:
            self._chains[path] = chain
            return
        with open(fd, "rb") as file:
            spec = _spec(file.read(limits.IGNORE_BYTES_MAX))
        base = f"{self._prefix}{path}/" if path else self._prefix
        self._chains[path] = ((base, spec), *chain)

    def choose(self, path: str, *, is_directory: bool) -> Choice:
        directory, _, name = path.rpartition("/")
        if name == ".git":
            return Choice.LEAVE
        full = f"{self._prefix}{path}{'/' * is_directory}"
        return Choice.LEAVE if _is_ignored(self._chains[directory], full) else Choice.TAKE


def _is_ignored(chain: _Chain, path: str) -> bool:
    for base, spec in chain:
        include = spec.check_file(path[len(base) :]).include
        if include is not None:
            return include
    return False


def _above(root: Path) -> tuple[str, _Chain]:
    """Where `root` lies below the top of its repository ("" or "a/b/"), and what counts there but lies above it."""
    top = next((above for above in (root, *root.parents) if (above / ".git").exists()), None)
    if top is None:
        return "", ()
    chain: _Chain = ()
    if exclude := _read(top / ".git" / "info" / "exclude"):
        chain = (("", exclude),)
    base = ""
    for name in ("", *root.relative_to(top).parts):
        base += name and f"{name}/"
        if top / base != root and (spec := _read(top / base / ".gitignore")):
            chain = ((base, spec), *chain)
    return base, chain


def _read(path: Path) -> GitIgnoreSpec | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            return _spec(file.read(limits.IGNORE_BYTES_MAX))
    except OSError:
        return None


def _spec(data: bytes) -> GitIgnoreSpec:
    lines = data.decode(errors="surrogateescape").removeprefix("\ufeff").split("\n")
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError:
        return GitIgnoreSpec.from_lines([line for line in lines if _is_pattern(line)])  # Git passes over the others too


def _is_pattern(line: str) -> bool:
    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True
