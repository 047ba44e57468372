"""How a failed call reaches the caller: its own exception, with the remote traceback as cause and a note that says
where.
"""

from __future__ import annotations

from mycelium.polymer.runtime.pool import Raised


class RemoteTraceback(Exception):
    """The traceback of the worker, as the cause of what is raised here."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return "\n" + self.text


def failure(raised: Raised, first: int, many: bool) -> BaseException:
    """The exception to raise for a call that failed; `first` is the index of the batch's first call."""
    error = raised.error
    call = f", call {first + raised.index}" if many else ""
    note = f"kernel {raised.kernel}{call}, input {raised.input_hash or 'unknown'}, {raised.where}"
    if note not in getattr(error, "__notes__", []):
        error.add_note(note)
    if raised.trace:
        error.__cause__ = RemoteTraceback(raised.trace)
    return error
