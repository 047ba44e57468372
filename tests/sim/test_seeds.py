"""The same seed gives the same log, byte for byte."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mycelium.sim.run import Simulation
from mycelium.sim.world import load

RUN = """
from mycelium.sim.run import Simulation
from mycelium.sim.world import load
print(Simulation(load("storm"), 5).run().log_hash)
"""


@pytest.mark.parametrize("world", ["calm", "gangs", "flaky-network"])
def test_the_same_seed_gives_the_same_log(world: str) -> None:
    one, other = Simulation(load(world), 11).run(), Simulation(load(world), 11).run()
    assert one.log_hash == other.log_hash
    assert (one.counts, one.turns, one.waits_ms) == (other.counts, other.turns, other.waits_ms)


def test_another_seed_gives_another_log() -> None:
    assert Simulation(load("calm"), 11).run().log_hash != Simulation(load("calm"), 12).run().log_hash


def test_more_nodes_give_more_of_everything() -> None:
    few, many = Simulation(load("churn"), 3).run(), Simulation(load("churn"), 3, 18).run()
    assert many.ok, many.what
    assert many.counts["submitted"] > 2 * few.counts["submitted"]


def test_the_log_does_not_depend_on_how_a_process_hashes() -> None:
    """The order of a set of names differs from process to process; no event may depend on it."""
    said = {
        subprocess.run(
            [sys.executable, "-c", RUN],
            env={**os.environ, "PYTHONHASHSEED": chance},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for chance in ("1", "2")
    }
    assert len(said) == 1
