"""`myc sim`, and the worlds that it reads."""

from __future__ import annotations

import json
import sys

import pytest

from mycelium.base.errors import Missing, Refused
from mycelium.cli.main import run
from mycelium.cli.site import sim
from mycelium.cli.site.sim import progress
from mycelium.head.core import Core
from mycelium.sim.run import Simulation
from mycelium.sim.world import load, names, read


def test_a_run_prints_what_happened(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sim", "calm", "--seed", "3", "--nodes", "4"]) == 0
    said = capsys.readouterr()
    assert "1 run, every promise held" in said.out
    assert "the hash of the last event is" in said.err


def test_how_far_a_long_run_is_can_be_told_while_it_runs() -> None:
    simulation = Simulation(load("calm"), 3, 4)
    horizon_s = simulation.world.horizon_s
    assert progress(simulation) == f"seed 3: 0 of {horizon_s:,} simulated seconds, 0 events"
    assert simulation.run().ok
    assert progress(simulation) == f"seed 3: the last jobs end, {simulation.log.last_seq:,} events"


def test_on_a_terminal_a_line_says_how_far_it_is_and_is_gone_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sim, "PROGRESS_S", 0.001)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run(["sim", "calm", "--seed", "3", "--nodes", "4"]) == 0
    said = capsys.readouterr().err
    assert "\r\x1b[Kseed 3: " in said
    assert "events\r\x1b[K" in said


def test_many_seeds_are_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sim", "head-crash", "--seeds", "1-2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [found["seed"] for found in document["runs"]] == [1, 2]
    assert all(found["ok"] and found["head_lives"] > 1 for found in document["runs"])


def test_what_broke_is_shown_with_the_command_that_repeats_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Core, now_ns: int) -> None:
        raise KeyError("job-1")

    monkeypatch.setattr(Core, "_plan", fails)
    assert run(["sim", "churn", "--seed", "9"]) == 1
    said = capsys.readouterr()
    assert "broken: the head does not crash" in said.err
    assert "again: myc sim churn --seed 9 --nodes 6" in said.err


def test_the_worlds_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sim", "list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in names())


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["atlantis"], 3), (["../calm"], 3), (["calm", "--seeds", "9-1"], 2), (["calm", "--seeds", "x"], 2)],
)
def test_what_cannot_be_run_is_refused(arguments: list[str], code: int) -> None:
    assert run(["sim", *arguments]) == code


def test_a_world_with_a_key_that_nobody_knows_is_refused() -> None:
    with pytest.raises(Refused, match="meteors"):
        read("mine", b"says = 'x'\n[faults]\nmeteors_s = 3\n")
    with pytest.raises(Refused):
        read("mine", b"says = ")
    with pytest.raises(Missing, match="atlantis"):
        load("atlantis")


@pytest.mark.parametrize("name", names())
def test_every_world_says_what_happens_in_it(name: str) -> None:
    assert load(name).says.endswith(".")
