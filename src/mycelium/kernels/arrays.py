"""Kernels over arrays: products, order, counts, sums, transforms, neighbours."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from mycelium.polymer.function import kernel
from mycelium.polymer.schema.types import Tensor

FORMS = ("xla", "python")

LeftMatrix = Annotated[np.ndarray, Tensor("float32", ("n", "k"))]
RightMatrix = Annotated[np.ndarray, Tensor("float32", ("k", "m"))]
Product = Annotated[np.ndarray, Tensor("float32", ("n", "m"))]
Vector = Annotated[np.ndarray, Tensor("float32", ("n",))]
Edges = Annotated[np.ndarray, Tensor("float32", ("b",))]
Counts = Annotated[np.ndarray, Tensor("int64", ("b - 1",))]
Waves = Annotated[np.ndarray, Tensor("complex64", ("n",))]
Plane = Annotated[np.ndarray, Tensor("float32", ("n", "m"))]


@kernel(forms=FORMS)
def matmul(x: LeftMatrix, y: RightMatrix) -> Product:
    """The product of two matrices.

    Cost: 2nmk operations. Source: Goto, van de Geijn, Anatomy of High-Performance Matrix Multiplication, TOMS 2008.
    """
    return x @ y


@kernel(forms=FORMS)
def sort(x: Vector) -> Vector:
    """The numbers in ascending order.

    Source: numpy.sort; XLA's sort, https://openxla.org/stablehlo/spec#sort.
    """
    xp = x.__array_namespace__()
    return xp.sort(x)


@kernel(forms=FORMS)
def histogram(x: Vector, edges: Edges) -> Counts:
    """How many numbers lie in each bin; the last bin holds its right edge too.

    Cost: sorts once, then two searches. Source: numpy.histogram with given edges.
    """
    xp = x.__array_namespace__()
    ordered = xp.sort(x)
    below = xp.searchsorted(ordered, edges, side="left")
    last = xp.searchsorted(ordered, edges[-1:], side="right")
    bounds = xp.concatenate([below[:-1], last])
    return (bounds[1:] - bounds[:-1]).astype(xp.int64)


@kernel(forms=FORMS)
def prefix_sum(x: Vector) -> Vector:
    """The sums of every beginning.

    Source: Blelloch, Prefix Sums and Their Applications, CMU-CS-90-190, 1990.
    """
    xp = x.__array_namespace__()
    return xp.cumsum(x)


@kernel(forms=FORMS)
def fft(x: Waves) -> Waves:
    """The discrete Fourier transform.

    Source: Cooley, Tukey, An Algorithm for the Machine Calculation of Complex Fourier Series, 1965; numpy.fft.fft.
    """
    xp = x.__array_namespace__()
    return xp.fft.fft(x).astype(xp.complex64)


@kernel(forms=FORMS)
def stencil(x: Plane) -> Plane:
    """One step of the heat equation: the mean of the four neighbours, and the border as it was.

    Source: Jacobi's method; Press et al., Numerical Recipes, section 20.5.
    """
    xp = x.__array_namespace__()
    mean = (xp.roll(x, 1, 0) + xp.roll(x, -1, 0) + xp.roll(x, 1, 1) + xp.roll(x, -1, 1)) * xp.float32(0.25)
    row, column = xp.arange(x.shape[0])[:, None], xp.arange(x.shape[1])[None, :]
    inside = (row > 0) & (row < x.shape[0] - 1) & (column > 0) & (column < x.shape[1] - 1)
    return xp.where(inside, mean, x)
