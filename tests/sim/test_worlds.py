"""Every promise of the system, in every world, from many seeds: 300 runs in all.

A failure prints what led to it and the command that repeats it.
"""

from __future__ import annotations

from typing import ClassVar

import pytest

from mycelium.sim.run import SimOutcome, Simulation
from mycelium.sim.world import load, names

CHUNKS, SEEDS = 6, 38  # of each world: 38 seeds in 6 chunks


def told(outcome: SimOutcome) -> str:
    return "\n".join([*outcome.trace, "", f"broken: {outcome.broken}", outcome.what, f"again: {outcome.repeat}"])


class World:
    """One class a world, so that workers share the worlds among them."""

    name: ClassVar[str]

    @pytest.mark.parametrize("chunk", range(CHUNKS))
    def test_every_promise_holds(self, chunk: int) -> None:
        world = load(self.name)
        for seed in range(1 + chunk, 1 + SEEDS, CHUNKS):
            outcome = Simulation(world, seed).run()
            assert outcome.ok, told(outcome)
            assert outcome.counts["submitted"] > 5
            assert outcome.counts["done"] > 0


class TestCalm(World):
    name = "calm"


class TestChurn(World):
    name = "churn"


class TestFlakyNetwork(World):
    name = "flaky-network"


class TestGangs(World):
    name = "gangs"


class TestHeadCrash(World):
    name = "head-crash"


class TestModels(World):
    name = "models"

    def test_replicas_come_for_many_go_to_none_and_come_again(self) -> None:
        for seed in range(1, 9):
            outcome = Simulation(load(self.name), seed).run()
            assert outcome.counts["woken"] >= 2
            assert outcome.counts["answered"] > 200
            assert outcome.counts["ReplicaStarted"] >= 8


class TestModelsChurn(World):
    name = "models-churn"


class TestPartition(World):
    name = "partition"


class TestSlowDisk(World):
    name = "slow-disk"


class TestStorm(World):
    name = "storm"


def test_every_world_has_a_class() -> None:
    assert {kind.name for kind in World.__subclasses__()} == set(names())


def test_there_are_300_runs() -> None:
    assert len(names()) * SEEDS >= 300
