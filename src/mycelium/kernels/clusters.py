"""Kernels that group points."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from mycelium.polymer.function import kernel
from mycelium.polymer.schema.types import Tensor

Points = Annotated[np.ndarray, Tensor("float32", ("n", "d"))]
Centres = Annotated[np.ndarray, Tensor("float32", ("k", "d"))]


@kernel(forms=("xla", "python"))
def kmeans_step(points: Points, centres: Centres) -> Centres:
    """Each centre moves to the mean of the points that are nearest to it; one that has none stays.

    Cost: nkd operations and n times k numbers of memory. Source: Lloyd, Least Squares Quantization in PCM, 1982.
    """
    xp = points.__array_namespace__()
    cross = points @ centres.T
    distances = (centres * centres).sum(axis=1)[None, :] - xp.float32(2.0) * cross
    nearest = xp.argmin(distances, axis=1)
    member = (nearest[:, None] == xp.arange(centres.shape[0])[None, :]).astype(xp.float32)
    counts = member.sum(axis=0)[:, None]
    means = (member.T @ points) / xp.maximum(counts, xp.float32(1.0))
    return xp.where(counts > 0, means, centres)
