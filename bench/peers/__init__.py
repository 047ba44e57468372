"""Other systems, measured in the same run on the same machine when `--peers` is given.

Never: leaves anything behind, or fails a benchmark: what was noted before stands in the place of a peer that
cannot be had.
"""

from __future__ import annotations

import sys


def wanted() -> bool:
    """Whether peers are to be measured in this run."""
    return "--peers" in sys.argv
