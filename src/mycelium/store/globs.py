"""Which files a step's `--outputs` mean.

As in a shell: `*`, `?` and `[…]` stay within one name and do not match a leading dot, `**` is any number of
directories. A directory that matches is meant with everything below it.

The globs walk along with whoever walks the directories, so that directories which cannot hold a match are never opened.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from typing import NamedTuple

from mycelium.base import limits
from mycelium.base.errors import Fault, Refused, refuse

# For every glob, how many of its components have been matched so far: several at once, because of `**`.
State = tuple[frozenset[int], ...]


class Globs:
    """Errors: `Refused` when a glob leads out of the directory or is empty, or there are too many."""

    def __init__(self, globs: Iterable[str]) -> None:
        texts = list(globs)
        if len(texts) > limits.OUTPUT_GLOBS_MAX:
            raise Refused(f"outputs has {len(texts)} globs; at most {limits.OUTPUT_GLOBS_MAX} are allowed")
        refuse([fault for text in texts if (fault := _fault(text))])
        self._globs = [_compile(text) for text in texts]

    def start(self) -> State:
        return tuple(_closed({0}, glob) for glob in self._globs)

    def step(self, state: State, name: str) -> State:
        """The state below the name `name` of a directory in `state`."""
        return tuple(
            _closed({at for position in positions for at in _next(glob, position, name)}, glob)
            for positions, glob in zip(state, self._globs, strict=True)
        )

    def matches(self, state: State) -> bool:
        return any(len(glob) in positions for positions, glob in zip(state, self._globs, strict=True))

    def may_match_below(self, state: State) -> bool:
        return any(state)


class _Part(NamedTuple):
    pattern: re.Pattern[str]
    hidden: bool  # whether it is written with a leading dot


_Glob = list[_Part | None]  # None: `**`


def _compile(text: str) -> _Glob:
    parts = [part for part in text.split("/") if part not in ("", ".")]
    return [
        None if part == "**" else _Part(re.compile(fnmatch.translate(part)), part.startswith(".")) for part in parts
    ]


def _next(glob: _Glob, position: int, name: str) -> list[int]:
    if position == len(glob):
        return []
    part = glob[position]
    if name.startswith(".") and not (part and part.hidden):
        return []
    if part is None:
        return [position]
    return [position + 1] if part.pattern.match(name) else []


def _closed(positions: set[int], glob: _Glob) -> frozenset[int]:
    """With the positions that are reached because `**` may be no directory at all."""
    for position in sorted(positions):
        at = position
        while at < len(glob) and glob[at] is None:
            at += 1
            positions.add(at)
    return frozenset(positions)


def _fault(text: str) -> Fault | None:
    if not text or "\0" in text or len(text.encode(errors="replace")) > limits.PATH_BYTES_MAX:
        return Fault(f"outputs {text[:80]!r}", "is not a glob", "write a path or a glob, such as results/*.csv")
    if text.startswith("/") or ".." in text.split("/"):
        return Fault(f"outputs {text[:80]!r}", "leads out of the job's directory", "outputs are below that directory")
    return None
