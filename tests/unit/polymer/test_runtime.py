"""The parts of the runtime that need no pool: batch sizes, frames, the fixed tree, kept results, the progress bar."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mycelium.base.errors import Refused
from mycelium.polymer import verbs as my
from mycelium.polymer.define import program
from mycelium.polymer.function import kernel
from mycelium.polymer.program.graph import frames
from mycelium.polymer.runtime import work
from mycelium.polymer.runtime.costs import BATCH_NS, GROWTH, Cost
from mycelium.polymer.runtime.memo import Keys, MemoryMemo
from mycelium.polymer.runtime.plan import plan
from mycelium.polymer.runtime.progress import Bar


@kernel
def double(x: int) -> int:
    return 2 * x


@kernel
def add(a: int, b: int) -> int:
    return a + b


def test_the_first_batch_is_one_call_and_later_ones_fill_the_time() -> None:
    cost = Cost()
    assert cost.batch(1_000_000, 2) == 1
    cost.measured(1, 1_000)
    assert cost.batch(1_000_000, 2) == GROWTH
    cost.measured(100_000, 100_000 * 1_000)
    assert cost.batch(1_000_000, 2) == BATCH_NS // 1_000


def test_the_end_of_a_map_is_cut_small_enough_for_all_workers() -> None:
    cost = Cost()
    cost.measured(1_000, 1_000)
    assert cost.batch(60, 10) == 2
    assert cost.batch(1, 10) == 1


def test_slow_calls_travel_alone() -> None:
    cost = Cost()
    cost.measured(1, 10 * BATCH_NS)
    assert cost.batch(1_000, 2) == 1


@program
def diamond(x: int) -> int:
    left, right = double(x), add(x, x)
    return add(double(left), right)


def test_frames_hold_what_may_run_at_the_same_time() -> None:
    assert frames(diamond.module.main) == [[1, 2], [3], [4]]


def test_the_longest_way_to_the_end_comes_first() -> None:
    assert plan(diamond.module.main).rank == [3, 3, 2, 2, 1]


@pytest.mark.parametrize("size", [1, 15, 16, 17, 255, 256, 257, 5_000])
def test_pieces_of_the_tree_are_the_tree(size: int) -> None:
    """Subtraction is not associative, so another shape would give another result."""
    xs = list(range(size))
    whole = work.tree(lambda a, b: a - 3 * b, xs)
    for node in (work.FAN, work.FAN**2):
        assert work.tree(lambda a, b: a - 3 * b, work.trees(lambda a, b: a - 3 * b, xs, node)) == whole


def test_an_empty_fold_needs_a_beginning() -> None:
    assert work.fold(add, [], [7]) == 7
    with pytest.raises(work.CallFailed) as failed:
        work.fold(add, [], [])
    assert "empty list" in str(failed.value.__cause__)


def test_keys_tell_values_types_and_kernels_apart() -> None:
    keys = Keys(double.kernel)
    values: list[Any] = [1, 1.0, True, "1", b"1", None, [1], (1,), np.ones(1), np.ones(1, np.float32), {"a": 1}]
    assert len({keys.of([value]) for value in values}) == len(values)
    assert keys.of([[1, 2]]) == Keys(double.kernel).of([[1, 2]])
    assert keys.of([1]) != Keys(add.kernel).of([1])


def test_a_kernel_that_cannot_be_written_down_is_not_kept() -> None:
    alive = object()

    @kernel(cache=True)
    def odd(x: int) -> int:
        return x + id(alive)

    with pytest.raises(Refused, match="cannot be written down") as refused:
        Keys(odd.kernel)
    assert "cache=True" in refused.value.hint


def test_the_least_recently_used_result_goes_first() -> None:
    memo = MemoryMemo(100)
    for key in "abcd":
        memo.put(key, b"x" * 25)
    assert memo.get("a") is not None
    memo.put("e", b"x" * 25)
    assert memo.get("b") is None
    assert memo.get("a") is not None
    memo.put("huge", b"x" * 50)
    assert memo.get("huge") is None
    assert memo.size_bytes == 100


def shown(bar: Bar) -> Any:
    return bar.shown


def test_a_progress_bar_appears_only_when_a_run_takes_long(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    run: Any = SimpleNamespace(graph=SimpleNamespace(name="index"), progress=lambda: (3, 9))
    bar = Bar(lambda: now[0], after_s=2.0)
    bar(run)
    assert shown(bar) is None
    now[0] = 3.0
    bar(run)
    (task,) = shown(bar).tasks
    assert (task.completed, task.total) == (3, 9)
    bar.close()


def test_select_outside_a_program_just_chooses() -> None:
    assert my.select(True, 1, 2) == 1
