"""What can be asked about jobs."""

from __future__ import annotations

from msgspec import Struct

from mycelium.base.ids import AccountId, JobId
from mycelium.jobs.model import Request


class Submit(Struct, frozen=True):
    """Answers with the ids of the jobs."""

    account: AccountId
    requests: tuple[Request, ...]
    key: str = ""


class Cancel(Struct, frozen=True):
    account: AccountId
    job: JobId
    index: int | None = None


class StopAll(Struct, frozen=True):
    """The site goes down: what runs is stopped and queued again."""

    by: str
