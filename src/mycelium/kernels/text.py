"""Kernels over words."""

from __future__ import annotations

import re
from collections import Counter

from mycelium.polymer.function import kernel

WORD = r"\w+"


@kernel
def count_words(text: str) -> dict[str, int]:
    """How often each word occurs, in lower case.

    Source: Dean, Ghemawat, MapReduce: Simplified Data Processing on Large Clusters, OSDI 2004, section 2.1.
    """
    return dict(Counter(re.findall(WORD, text.lower())))


@kernel
def merge_counts(first: dict[str, int], second: dict[str, int]) -> dict[str, int]:
    """The sums of two counts; associative, so that it may reduce in any tree."""
    small, large = sorted((first, second), key=len)
    merged = dict(large)
    for word, count in small.items():
        merged[word] = merged.get(word, 0) + count
    return merged
