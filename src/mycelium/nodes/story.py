"""Says in words what an event of a node means to the people of a site: one sentence an event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mycelium.nodes.events import (
    NodeApproved,
    NodeAsked,
    NodeBack,
    NodeDrained,
    NodeDraining,
    NodeForgotten,
    NodeJoined,
    NodeLeft,
    NodeLost,
    NodeReturned,
    NodeSuspected,
)


def _say_drain(event: NodeDraining) -> str:
    how = "at once: what runs there is stopped and queued again" if event.now else "when its work has ended"
    return f"{event.by} drains {event.node}, {how}"


SENTENCES: dict[type, Callable[[Any], str]] = {
    NodeAsked: lambda event: f"{event.node} ({event.name}) asks to join from {event.address}",
    NodeApproved: lambda event: f"{event.by} approved {event.node}",
    NodeJoined: lambda event: f"{event.node} ({event.name}) offers {event.devices}",
    NodeSuspected: lambda event: f"{event.node} is suspect: {event.why}",
    NodeLost: lambda event: f"{event.node} is lost: {event.why}",
    NodeBack: lambda event: f"{event.node} is back",
    NodeDraining: _say_drain,
    NodeDrained: lambda event: f"{event.node} is drained",
    NodeReturned: lambda event: f"{event.by} returned {event.node} to work",
    NodeLeft: lambda event: f"{event.by} took {event.node} out of the site",
    NodeForgotten: lambda event: f"{event.node} left long ago and is forgotten",
}
