"""A small library of kernels, each typed and with the source that it follows.

The tensor kernels are written once, against the array interface that numpy and jax share: where jax is installed they
run as compiled modules, and elsewhere with numpy.
"""

from __future__ import annotations

from mycelium.kernels.arrays import fft, histogram, matmul, prefix_sum, sort, stencil
from mycelium.kernels.clusters import kmeans_step
from mycelium.kernels.text import count_words, merge_counts

__all__ = [
    "count_words",
    "fft",
    "histogram",
    "kmeans_step",
    "matmul",
    "merge_counts",
    "prefix_sum",
    "sort",
    "stencil",
]
