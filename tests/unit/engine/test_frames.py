from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycelium.base import framing
from mycelium.base.errors import Exhausted, Problem, Refused
from mycelium.base.ids import NodeId, StepId
from mycelium.base.limits import FRAME_BYTES_MAX
from mycelium.engine import frames
from mycelium.engine.orders import (
    Beat,
    Chunk,
    Ended,
    Exited,
    Forget,
    Gone,
    Order,
    Reason,
    Report,
    Running,
    Sandbox,
    Shutdown,
    Start,
    Step,
    Stop,
    Tail,
    Untail,
)
from mycelium.nodes.model import Devices

STEP = Step(StepId("job-1-a1-r0"), ("sh", "-c", "ü\n"), Devices(1, 2, 3), 4, 5, Sandbox.PROCESS, env={"A": "b"})
ENDED = Ended(Reason.MEMORY, 137, "too much", started_ns=1, ended_ns=2)


def read(data: bytes) -> bytes | None:
    async def script() -> bytes | None:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return await framing.read(reader)

    return asyncio.run(script())


@pytest.mark.parametrize(
    "order",
    [Start(STEP), Stop(STEP.id, 5), Forget(STEP.id), Tail(1, STEP.id, "stdout", 3, True), Untail(1), Shutdown(True, 9)],
)
def test_orders_arrive_as_they_were_sent(order: Order) -> None:
    body = read(frames.pack(order))
    assert body is not None
    assert frames.unpack_order(body) == order


@pytest.mark.parametrize(
    "report",
    [
        Beat(NodeId("node-1"), "b", 3, (Running(STEP.id, 5),), (Gone(STEP.id, ENDED),)),
        Exited(NodeId("node-1"), STEP.id, ENDED),
        Chunk(1, 2, b"\0\xff", end=True),
    ],
)
def test_reports_arrive_as_they_were_sent(report: Report) -> None:
    body = read(frames.pack(report))
    assert body is not None
    assert frames.unpack_report(body) == report


@given(data=st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    for unpack in (frames.unpack_order, frames.unpack_report):
        try:
            unpack(data)
        except Problem as error:
            assert isinstance(error, Refused)


def test_a_message_too_large_for_a_frame_is_not_sent() -> None:
    with pytest.raises(Exhausted):
        frames.pack(Chunk(1, 0, bytes(FRAME_BYTES_MAX)))


def test_an_order_is_no_report() -> None:
    body = read(frames.pack(Forget(STEP.id)))
    assert body is not None
    with pytest.raises(Refused):
        frames.unpack_report(body)
