"""The whole state of a site: what a snapshot holds and what the log leads to.

`Site` is what jobs know of it; the domains above jobs are added here, so that no lower one sees them.
"""

from __future__ import annotations

from msgspec import field

from mycelium.inference.model import Inference
from mycelium.jobs.model import Site


class State(Site):
    inference: Inference = field(default_factory=Inference)


def whole(site: Site) -> State:
    """The state that begins with this site, of which nothing else is known yet."""
    return site if isinstance(site, State) else State(site.nodes, site.accounts, site.jobs)
