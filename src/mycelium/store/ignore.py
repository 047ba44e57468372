"""What Git would not take: `.git` itself and whatever `.gitignore` files name.

The `.gitignore` files of all directories count, also those above the working directory up to the top of its repository,
and the repository's `info/exclude`. A deeper file outweighs a higher one; below an ignored directory nothing is seen.

Never: asks Git, which may not be there.
"""

from __future__ import annotations

import os
from pathlib import Path

from mycelium.base import limits
from mycelium.store.below import Below
from mycelium.store.gitignore import Gitignore
from mycelium.store.survey import SurveyChoice

# The files that count for a directory, the weightiest first: each with where it lies, "" or "a/b/" below the top.
_Chain = tuple[tuple[str, Gitignore], ...]


class Everything:
    """Chooses all but `.git`."""

    def enter(self, path: str, below: Below) -> None:
        return

    def choose(self, path: str, *, is_directory: bool) -> SurveyChoice:
        return SurveyChoice.LEAVE if path.rpartition("/")[2] == ".git" else SurveyChoice.TAKE


class Ignore:
    """Chooses what Git would take below `root`."""

    def __init__(self, root: Path) -> None:
        self._prefix, above = _above(root.resolve())
        if _lies_in_ignored(above, self._prefix):
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
            rules = _parse(file.read(limits.IGNORE_BYTES_MAX))
        base = f"{self._prefix}{path}/" if path else self._prefix
        self._chains[path] = ((base, rules), *chain)

    def choose(self, path: str, *, is_directory: bool) -> SurveyChoice:
        directory, _, name = path.rpartition("/")
        if name == ".git":
            return SurveyChoice.LEAVE
        ignored = _is_ignored(self._chains[directory], self._prefix + path, is_directory=is_directory)
        return SurveyChoice.LEAVE if ignored else SurveyChoice.TAKE


def _is_ignored(chain: _Chain, path: str, *, is_directory: bool) -> bool:
    for base, file in chain:
        said = file.ignores(path[len(base) :], is_directory=is_directory)
        if said is not None:
            return said
    return False


def _lies_in_ignored(chain: _Chain, prefix: str) -> bool:
    """Whether `prefix` or a directory on the way to it is ignored by a file that lies above it."""
    way = ""
    for name in prefix.split("/")[:-1]:
        above = tuple(each for each in chain if way.startswith(each[0]))
        if _is_ignored(above, way + name, is_directory=True):
            return True
        way += f"{name}/"
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
        if top / base != root and (rules := _read(top / base / ".gitignore")):
            chain = ((base, rules), *chain)
    return base, chain


def _read(path: Path) -> Gitignore | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            return _parse(file.read(limits.IGNORE_BYTES_MAX))
    except OSError:
        return None


def _parse(data: bytes) -> Gitignore:
    return Gitignore(data.decode(errors="surrogateescape").removeprefix("\ufeff").split("\n"))
