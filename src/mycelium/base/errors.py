"""The six kinds of error, named for whose move is next.

One table, `KINDS`, maps each kind to its HTTP status and its exit code; every door (CLI, HTTP, gateway) asks it.
A message says what, how much and the bound, in lower case without a full stop; the hint says what to do.
"""

from __future__ import annotations

from dataclasses import dataclass


class Problem(Exception):
    """An error that a person can act on. Raise one of its six kinds, never this class."""

    kind = "problem"
    http = 500
    exit = 1

    def __init__(self, message: str, *, hint: str = "", faults: tuple[Fault, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.faults = faults  # what a person's file got wrong, one by one; empty for a single plain error

    def body(self) -> dict[str, dict[str, object]]:
        """The document that every HTTP door answers with; what a person's file got wrong is listed in it one by one."""
        error: dict[str, object] = {"kind": self.kind, "message": self.message, "hint": self.hint}
        if len(self.faults) > 1 or any(fault.where for fault in self.faults):
            error["faults"] = [{"where": f.where, "message": f.message, "hint": f.hint} for f in self.faults]
        return {"error": error}


class Refused(Problem):
    """Can never succeed as written: change it."""

    kind, http, exit = "refused", 400, 2


class Missing(Problem):
    """No such name."""

    kind, http, exit = "missing", 404, 3


class Denied(Problem):
    """Not allowed to this user."""

    kind, http, exit = "denied", 403, 4


class Unknown(Denied):
    """Not allowed because no valid token was shown: the same kind as `Denied`, with HTTP's own status for it."""

    http = 401


class Conflict(Problem):
    """The world moved: read again."""

    kind, http, exit = "conflict", 409, 5


class Exhausted(Problem):
    """A limit is reached: wait or raise it."""

    kind, http, exit = "exhausted", 429, 6


class Unavailable(Problem):
    """A part is not answering: retried with backoff."""

    kind, http, exit = "unavailable", 503, 7


KINDS: dict[str, type[Problem]] = {
    error.kind: error for error in (Refused, Missing, Denied, Conflict, Exhausted, Unavailable)
}


@dataclass(frozen=True)
class Fault:
    """One thing wrong with something a person wrote: where, what, and what to do about it."""

    where: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        said = f"{self.where}: {self.message}" if self.where else self.message
        return f"{said} ({self.hint})" if self.hint else said


def refuse(faults: list[Fault]) -> None:
    """Raise one `Refused` that names every fault, or return when there is none."""
    if not faults:
        return
    if len(faults) == 1:
        only = faults[0]
        raise Refused(f"{only.where}: {only.message}" if only.where else only.message, hint=only.hint, faults=(only,))
    listed = "\n".join(f"  {fault}" for fault in faults)
    raise Refused(f"{len(faults)} mistakes:\n{listed}", faults=tuple(faults))
