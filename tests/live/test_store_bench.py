from __future__ import annotations

import bench.store


def test_the_small_benchmark_of_the_store_runs() -> None:
    figures = bench.store.run(small=True)
    assert figures["files"] == 100
    assert all(figure > 0 for figure in figures.values())
