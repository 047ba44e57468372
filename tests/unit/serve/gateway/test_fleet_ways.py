"""The way to a replica on another machine may change, and may not be known for a moment; the replica stays the same."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mycelium.base.ids import JobId, NodeId, StepId
from mycelium.engine.passage import Gate
from mycelium.inference.model import Backend, ModelKind
from mycelium.serve.gateway.fleet import Fleet
from mycelium.serve.gateway.table import DeploymentRow, GatewayTable, ReplicaRow
from mycelium.serve.http1.client import HttpClient

DEPLOYMENT = DeploymentRow("m", ModelKind.CHAT, Backend.LLAMA, "", 4, 512, "ada", 0, leaving=False)
GATE = Gate("10.0.0.2:4000", "key", NodeId("node-2"), StepId("job-1-a1-r0"))
ROW = ReplicaRow(JobId("job-1"), "m", 1, draining=False, gate=GATE)


@pytest.fixture
def fleet() -> Fleet:
    made = Fleet(HttpClient())
    made.told(GatewayTable((DEPLOYMENT,), (ROW,)))
    made.members[ROW.job].ready = True
    return made


def test_a_head_that_does_not_know_the_way_yet_costs_no_replica(fleet: Fleet) -> None:
    fleet.told(GatewayTable((DEPLOYMENT,), (replace(ROW, gate=None),)))
    assert fleet.members[ROW.job].target.gate == GATE
    assert fleet.members[ROW.job].ready


def test_a_machine_that_joined_again_is_reached_where_it_is_now(fleet: Fleet) -> None:
    now = replace(GATE, address="10.0.0.2:5000")
    fleet.told(GatewayTable((DEPLOYMENT,), (replace(ROW, gate=now),)))
    assert fleet.members[ROW.job].target.gate == now
    assert fleet.members[ROW.job].ready


def test_another_attempt_is_another_replica(fleet: Fleet) -> None:
    fleet.told(GatewayTable((DEPLOYMENT,), (replace(ROW, attempt=2),)))
    assert not fleet.members[ROW.job].ready
