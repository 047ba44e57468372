"""What the tables of commands hold."""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """`place` is `module:function` beside the table; several words in the command's name make it part of a group.

    `runs`: its arguments are another command, and options after the first word belong to that one.
    """

    place: str
    heading: str
    says: str
    runs: bool = False
