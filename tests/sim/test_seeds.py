"""The same seed gives the same log, byte for byte."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mycelium.sim.run import simulate
from mycelium.sim.world import load

RUN = """
from mycelium.sim.run import simulate
from mycelium.sim.world import load
print(simulate(load("storm"), 5).log_hash)
"""


@pytest.mark.parametrize("world", ["calm", "gangs", "flaky-network"])
def test_the_same_seed_gives_the_same_log(world: str) -> None:
    one, other = simulate(load(world), 11), simulate(load(world), 11)
    assert one.log_hash == other.log_hash
    assert (one.counts, one.turns, one.waits_ms) == (other.counts, other.turns, other.waits_ms)


def test_another_seed_gives_another_log() -> None:
    assert simulate(load("calm"), 11).log_hash != simulate(load("calm"), 12).log_hash


def test_more_nodes_give_more_of_everything() -> None:
    few, many = simulate(load("churn"), 3), simulate(load("churn"), 3, 18)
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
