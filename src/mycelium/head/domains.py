"""What moves in here: one word in `DOMAINS` mounts a domain, and everything that the head knows of it follows.

They are asked for their plans in this order: jobs last, because they place what the others have called for.
"""

from __future__ import annotations

from functools import cache

from mycelium.accounts.domain import DOMAIN as ACCOUNTS
from mycelium.base.domain import Domain, View
from mycelium.base.ids import AccountId
from mycelium.base.subject import AN_ADMIN, AN_OPERATOR, ANY_USER, owned
from mycelium.head.mount import Mounted, mount
from mycelium.inference.domain import DOMAIN as INFERENCE
from mycelium.jobs.domain import DOMAIN as JOBS
from mycelium.nodes.domain import DOMAIN as NODES

DOMAINS: tuple[Domain, ...] = (NODES, ACCOUNTS, INFERENCE, JOBS)


def _whose(view: View, name: str) -> AccountId | None:
    """The account that has a story to itself; what belongs to nobody is everybody's to read."""
    if name in view.state.accounts.by_id:
        return AccountId(name)
    key = view.state.inference.keys.get(name)
    return key.account if key is not None else None


# What is looked at of the site as a whole, and who may.
LOOKS = {
    "the site at a glance": ANY_USER,
    "objects, by their names": ANY_USER,
    "every event": AN_OPERATOR,
    "the story of a node, an account, a deployment, a model or a key": owned(_whose),
    "whether the log is as it was written": AN_OPERATOR,
    "export and prune the log": AN_ADMIN,
    "stop the site": AN_ADMIN,
}


@cache
def mounted() -> Mounted:
    """All of them, as the head of this process has them."""
    return mount(DOMAINS, LOOKS)
