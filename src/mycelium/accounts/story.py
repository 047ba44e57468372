"""Says in words what an event of an account means to the people of a site: one sentence an event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mycelium.accounts.events import AccountAdded, TokenReplaced

SENTENCES: dict[type, Callable[[Any], str]] = {
    AccountAdded: lambda event: f"{event.by} added the account {event.name} ({event.role})",
    TokenReplaced: lambda event: f"{event.by} replaced the token of {event.account}",
}
