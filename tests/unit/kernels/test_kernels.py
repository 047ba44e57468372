"""The library against numpy, in each form that runs here."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest

from mycelium import kernels
from mycelium.polymer.forms.resolve import available, resolve
from mycelium.polymer.forms.seal import seal_kernel
from mycelium.polymer.function import KernelFunction

CHANCE = np.random.default_rng(5)
TENSOR = (kernels.matmul, kernels.sort, kernels.histogram, kernels.prefix_sum, kernels.fft, kernels.stencil,
          kernels.kmeans_step)  # fmt: skip


def in_each_form(function: KernelFunction[..., Any], *arguments: Any) -> list[Any]:
    forms = [form for form in function.kernel.forms if available(form)]
    return [resolve(msgspec.structs.replace(function.kernel, forms=(form,)))(*arguments) for form in forms]


def test_matmul_is_numpys() -> None:
    x, y = CHANCE.standard_normal((17, 5), np.float32), CHANCE.standard_normal((5, 9), np.float32)
    for result in in_each_form(kernels.matmul, x, y):
        np.testing.assert_allclose(result, x @ y, rtol=1e-5, atol=1e-5)


def test_sort_is_numpys() -> None:
    x = CHANCE.standard_normal(1000, np.float32)
    for result in in_each_form(kernels.sort, x):
        np.testing.assert_array_equal(result, np.sort(x))


def test_histogram_is_numpys_with_the_last_edge_inside() -> None:
    x = np.append(CHANCE.uniform(-2, 2, 999).astype(np.float32), np.float32(1.0))
    edges = np.linspace(-1, 1, 11, dtype=np.float32)
    for result in in_each_form(kernels.histogram, x, edges):
        np.testing.assert_array_equal(result, np.histogram(x, edges)[0])
        assert result.dtype == np.int64


def test_prefix_sum_is_numpys() -> None:
    x = CHANCE.integers(0, 9, 500).astype(np.float32)
    for result in in_each_form(kernels.prefix_sum, x):
        np.testing.assert_array_equal(result, np.cumsum(x))


def test_fft_is_numpys() -> None:
    x = (CHANCE.standard_normal(256) + 1j * CHANCE.standard_normal(256)).astype(np.complex64)
    for result in in_each_form(kernels.fft, x):
        np.testing.assert_allclose(result, np.fft.fft(x), rtol=1e-3, atol=1e-3)
        assert result.dtype == np.complex64


def test_stencil_averages_neighbours_and_keeps_the_border() -> None:
    x = CHANCE.standard_normal((8, 6), np.float32)
    expected = x.copy()
    for row in range(1, 7):
        for column in range(1, 5):
            across, along = x[row, column - 1] + x[row, column + 1], x[row - 1, column] + x[row + 1, column]
            expected[row, column] = (across + along) / 4
    for result in in_each_form(kernels.stencil, x):
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_kmeans_moves_centres_to_their_points_and_leaves_lonely_ones() -> None:
    points = np.array([[0, 0], [0, 2], [10, 10], [10, 12]], np.float32)
    centres = np.array([[1, 1], [9, 9], [100, 100]], np.float32)
    for result in in_each_form(kernels.kmeans_step, points, centres):
        np.testing.assert_allclose(result, [[0, 1], [10, 11], [100, 100]])


def test_words_are_counted_and_counts_merged() -> None:
    text = "The cat and the hat"
    assert kernels.count_words(text) == Counter(text.lower().split())
    assert kernels.merge_counts({"a": 1}, {"a": 2, "b": 3}) == {"a": 3, "b": 3}


@pytest.mark.parametrize("function", TENSOR, ids=lambda function: function.kernel.name)
def test_every_tensor_kernel_is_typed_and_names_its_source(function: KernelFunction[..., Any]) -> None:
    assert "Source:" in (function.function.__doc__ or "")
    assert "any" not in str(function.signature)


@pytest.mark.parametrize("function", [kernels.matmul, kernels.kmeans_step, kernels.stencil, kernels.sort],
                         ids=lambda function: function.kernel.name)  # fmt: skip
def test_tensor_kernels_can_be_written_into_a_container(function: KernelFunction[..., Any]) -> None:
    pytest.importorskip("jax")
    assert seal_kernel(function.kernel).form_names() == ("xla", "python")
