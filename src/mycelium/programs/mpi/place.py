"""What a step of a gang finds in its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping

from msgspec import Struct

from mycelium.base.errors import Refused

PEERS = "MYC_GANG_PEERS"  # the file in which rank 0 keeps where the others listen, for `reach`


class RankPlace(Struct, frozen=True):
    """One rank, and how it finds the others. `port` is rank 0's."""

    rank: int
    addresses: tuple[str, ...]
    port: int
    secret: str
    cpus: int

    @property
    def own(self) -> str:
        return self.addresses[self.rank]


def read(environment: Mapping[str, str] = os.environ) -> RankPlace:
    """Errors: `Refused` outside of a gang."""
    try:
        return RankPlace(
            rank=int(environment["MYC_NODE_RANK"]),
            addresses=tuple(environment["MYC_NODE_ADDRESSES"].split(",")),
            port=int(environment["MYC_GANG_PORT"]),
            secret=environment["MYC_GANG_SECRET"],
            cpus=max(1, int(float(environment.get("MYC_CPUS", "1")))),
        )
    except KeyError as error:
        raise Refused(
            f"{error.args[0]} is not set: this is not a step of a gang",
            hint="give the job --nodes 2 or more, and --net",
        ) from None
