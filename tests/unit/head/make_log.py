"""Writes the log that every later release must still read: `python -m tests.unit.head.make_log 0.1`.

Run once for a release, never again for the same one: what it wrote is kept beside it and replayed by test_codec.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from msgspec.structs import replace

from mycelium.accounts.rules import ReplaceToken
from mycelium.base.domain import Asked
from mycelium.head.replay import replay
from mycelium.sim.people import ADMIN
from mycelium.sim.run import Simulation
from mycelium.sim.world import SimWorld, load
from tests.unit.head.facts import FIRST_KINDS, facts_of

DATA = Path(__file__).parent / "data"


def _whole(world: SimWorld, seed: int) -> Simulation | None:
    """A run in which everything happens that can; only a token is replaced by hand afterwards."""
    simulation = Simulation(world, seed)
    outcome = simulation.run()
    happens = FIRST_KINDS - {"TokenReplaced"} <= set(outcome.counts)
    return simulation if outcome.ok and happens and simulation.head.core is not None else None


def write(release: str) -> Path:
    """A small storm, so that every kind of event happens, and what it leads to."""
    world = load("storm")
    world = replace(world, horizon_s=30, retain_s=20, work=replace(world.work, submit_ms=2500, remove_permille=1000))
    simulation = next(found for seed in range(1, 500) if (found := _whole(world, seed)))
    core = simulation.head.core
    assert core is not None
    core.turn([Asked(ADMIN, ReplaceToken("ada", "f" * 64))], simulation.head.now_ns)
    lines = [
        json.dumps(
            {"seq": e.seq, "time_ns": e.time_ns, "kind": e.kind, "data": json.loads(e.data), "hash": e.hash.hex()}
        )
        for e in simulation.log.read(0)
    ]
    path = DATA / f"log-{release}.jsonl"
    path.write_text("\n".join(lines) + "\n")
    half = replay(simulation.log.read(0, simulation.log.last_seq // 2))  # most jobs are archived at the end
    facts = {"half": facts_of(half), "whole": facts_of(core.site)}
    path.with_suffix(".facts.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    return path


if __name__ == "__main__":
    print(write(sys.argv[1]))
