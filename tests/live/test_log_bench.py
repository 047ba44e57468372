from __future__ import annotations

import bench.log


def test_the_small_benchmark_of_the_log_runs() -> None:
    rows = bench.log.run(small=True)
    assert len(rows) == len(bench.log.BATCHES) + 2
    assert all(row.figure > 0 for row in rows)
