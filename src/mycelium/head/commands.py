"""What can be asked of the head. What agents report (engine/orders.py) are commands as well."""

from __future__ import annotations

from msgspec import Struct

from mycelium.accounts.rules import AddAccount, ReplaceToken
from mycelium.base.ids import AccountId, JobId
from mycelium.engine.orders import Beat, Exited, Hello, Started
from mycelium.engine.seam import NodeDown, NodeUp
from mycelium.inference.commands import InferenceCommand
from mycelium.jobs.model import Request
from mycelium.nodes.rules import Approve, Ask, Drain, Remove, Return


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


class Tick(Struct, frozen=True):
    """Time has passed: look whether something is due."""


Command = (
    Submit
    | Cancel
    | StopAll
    | Tick
    | Ask
    | Approve
    | Drain
    | Return
    | Remove
    | AddAccount
    | ReplaceToken
    | InferenceCommand
    | NodeUp
    | NodeDown
    | Hello
    | Beat
    | Started
    | Exited
)
