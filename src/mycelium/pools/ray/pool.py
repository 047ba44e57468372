"""A pool whose workers are actors of Ray, on any of its nodes; Ray itself is in a child process, the driver.

A worker or node that is lost loses its calls, a driver or a Ray that is lost loses those of all workers; they are sent
again when there are workers again, for as long as patience lasts. Never: imports Ray, or waits without a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mycelium.base.errors import Refused
from mycelium.base.limits import POOL_WORKERS_MAX
from mycelium.pools.local.processes import Processes
from mycelium.pools.pool import CrewedPool
from mycelium.pools.ray.actors import Actors
from mycelium.pools.ray.offer import RayOffer

PATIENCE_S = 90.0  # without any worker, while work waits: as long as a site's Ray may take to be built again


class RayPool(CrewedPool):
    """Workers on the nodes of a running Ray, one per cpu of Ray's unless `nodes` says how many where.

    `here`: so many workers of this machine's own beside them, which Ray knows nothing of and which do not wait for it.
    `nodes` names the others by Ray's id, by address or by a site's name for the machine. The calling machine must be
    one of Ray's. Modules that functions are imported from must be there on every node; Mycelium must be the same.
    Errors: whoever runs something gets `Unavailable` when there was no worker for `patience_s`.
    """

    trip_ns = 500_000

    def __init__(
        self,
        address: str | Callable[[], RayOffer],
        *,
        nodes: Mapping[str, int] | None = None,
        here: int = 0,
        patience_s: float = PATIENCE_S,
    ) -> None:
        super().__init__()
        if address == "" or (isinstance(address, str) and address.startswith("ray://")):
            raise Refused(
                f"{address!r} is not an address of Ray's own", hint="HOST:PORT, as `ray start --head` prints it"
            )
        wanted = dict(nodes or {})
        if not all(0 < slots <= POOL_WORKERS_MAX for slots in wanted.values()):
            raise Refused(f"a node of a pool can have 1 to {POOL_WORKERS_MAX} workers")
        offer = address if callable(address) else lambda: RayOffer(address)
        self.actors = Actors(self, offer, wanted, POOL_WORKERS_MAX - here, patience_s)
        self.crews = (Processes(self, here), self.actors) if here else (self.actors,)

    @property
    def driver_pid(self) -> int:
        """The process that Ray knows as the driver of this pool; 0 while there is none."""
        return self.actors.driver.pid
