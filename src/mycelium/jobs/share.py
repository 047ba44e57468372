"""Fair share: what an account has used and holds, beside what is its due. The least served is asked first.

Within a pass each placement counts at once, as if it ran for `HORIZON_S`: accounts with an equal past take turns
instead of one taking everything.
Never: decides who runs.
Source: the shape of Slurm's and Condor's fair share (usage with a half-life), without their factor weights.
"""

from __future__ import annotations

from mycelium.accounts.model import Usage
from mycelium.base.limits import SHARE_HORIZON_S
from mycelium.jobs.model import Request
from mycelium.nodes.model import Devices


def rate_m(needs: Devices) -> int:
    """What a lease on one node counts for: the dearest of cpus, memory (4 GiB are a cpu) and gpus (each 8 cpus)."""
    return max(needs.cpu_m, needs.memory_bytes * 1000 >> 32, needs.gpus * 8000)


def share(usage: Usage, weight: int, now_ns: int) -> float:
    """The figure by which accounts are compared: less goes first.

    Units: cpu-seconds used (half forgotten each half-life) and soon to be used by what it holds, per unit of weight.
    """
    return (usage.spent_at(now_ns) + usage.rate_m * SHARE_HORIZON_S / 1000) / weight


def growth(request: Request, weight: int) -> float:
    """By how much one more task of this request raises its account's figure."""
    return task_rate_m(request) * SHARE_HORIZON_S / 1000 / weight


def task_rate_m(request: Request) -> int:
    """What one task of this request counts for while it runs."""
    return rate_m(request.needs) * request.nodes
