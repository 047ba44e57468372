"""A worker of Ray without Ray: what it is sent and what it answers."""

from __future__ import annotations

import pickle
from typing import Any

import numpy
import pytest

from mycelium.base.errors import Exhausted
from mycelium.pools.local import wire
from mycelium.pools.local.worker import Told
from mycelium.pools.ray.worker import PoolWorker, failing, pickled


def kernel(number: int, function: Any) -> tuple[int, int, int, bytes, list[Any]]:
    return wire.KERNEL, number, 0, pickled((function.__name__, function))[0], []


def call(ticket: int, number: int, *values: Any) -> tuple[int, int, int, bytes, list[Any]]:
    return wire.WORK, ticket, 1, pickled([("call", number, values, 0, 0)])[0], []


def answers(given: list[Any]) -> dict[int, Any]:
    return dict(pair for _, _, body, buffers in given for pair in pickle.loads(body, buffers=buffers))


def test_calls_that_travel_together_are_answered_one_by_one() -> None:
    worker = PoolWorker()
    told = answers(worker.take([kernel(1, abs), call(7, 1, -3), call(8, 1, "x"), call(9, 1, -5)]))
    assert (told[7][0], told[9][0]) == (3, 5)
    assert isinstance(told[8], Told)
    assert " on " in told[8].where


def test_a_large_array_is_read_in_place_from_an_object_and_from_another_workers_answer() -> None:
    worker = PoolWorker()
    array = numpy.arange(100_000.0)
    body, buffers = pickled([("call", 1, (array,), 0, 0)])
    assert len(buffers) == 1
    worker.take([kernel(1, numpy.negative)])
    by_object = worker.take([(wire.WORK, 5, 1, body, [(0, None)])], buffers[0])
    body, _ = pickled([("call", 1, (array,), 0, 0)])
    by_answer = worker.take([(wire.WORK, 6, 1, body, [(0, (0, 0))])], by_object)
    assert (answers(by_object)[5][0] == -array).all()
    assert (answers(by_answer)[6][0] == array).all()


def test_what_cannot_be_carried_says_so_where_it_is_used() -> None:
    worker = PoolWorker()
    with pytest.raises(Exhausted, match="Ray could not take a value: full"):
        pickle.loads(failing("full"))
    told = answers(worker.take([kernel(1, abs), (wire.WORK, 5, 1, failing("full"), []), call(6, 1, -1)]))
    assert isinstance(told[5], Told)
    assert "full" in told[5].shown
    assert told[6][0] == 1


def test_a_result_that_cannot_be_carried_fails_alone() -> None:
    import threading

    worker = PoolWorker()
    worker.take([kernel(1, threading.Lock), kernel(2, abs)])
    told = answers(worker.take([call(1, 1), call(2, 2, -2)]))
    assert isinstance(told[1], Told)
    assert told[2][0] == 2
