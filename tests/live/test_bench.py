"""Every benchmark's small size runs, in a process of its own. No figure is judged here: how fast, `make bench` says."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from bench.__main__ import Outcome, measure, median, missed, names
from bench.row import JSON_VARIABLE, WIDTH, Row, print_table

ROOT = Path(__file__).parents[2]


def bench(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *words]
    return subprocess.run(
        command, check=False, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=170
    )


@pytest.mark.parametrize("name", names())
def test_the_small_size_gives_rows(name: str, tmp_path: Path) -> None:
    written = tmp_path / "rows.json"
    done = bench(f"bench.{name}", "--small", **{JSON_VARIABLE: str(written)})
    assert done.returncode == 0, done.stderr[-4000:]
    document = json.loads(written.read_text())
    rows = [Row(**row) for row in document["rows"]]
    assert document["title"] in done.stdout
    assert len({row.what for row in rows}) == len(rows) > 0
    for row in rows:
        assert row.unit, row
        assert math.isfinite(row.figure), row
        assert row.figure >= 0 or " adds" in row.what, row  # a difference may be below nothing where others are at work
        assert row.command == f"python -m bench.{name} --small"


def test_all_of_them_are_found() -> None:
    assert {"log", "store", "plan", "steps", "head"} <= set(names())
    assert not {"row", "alone", "machine"} & set(names())


def test_the_whole_house_runs_one_of_them_and_writes_what_it_found(tmp_path: Path) -> None:
    written = tmp_path / "all.json"
    done = bench("bench", "--only", "log", "--small", "--times", "2", "--json", str(written))
    assert done.returncode == 0, done.stderr[-4000:]
    assert "goals are not judged" in done.stdout
    document = json.loads(written.read_text())
    assert [outcome["name"] for outcome in document["benches"]] == ["log"]
    assert document["benches"][0]["rows"]
    assert "cpus" in document["machine"]


def test_a_benchmark_that_breaks_says_why() -> None:
    with Progress(console=Console(file=io.StringIO())) as progress:
        progress.add_task("")
        outcome = measure("no_such_benchmark", ["--small"], progress)
    assert not outcome.rows
    assert "No module named bench.no_such_benchmark" in outcome.error


def test_a_missed_goal_is_told_with_how_much_it_lacks_what_was_possible_and_how_to_see_it() -> None:
    slow = Row("submits", 150, "/s", 300, bound="the disk 200/s", command="python -m bench.head")
    large = Row("memory", 2048, "MiB", 1024, "less", command="python -m bench.head")
    well = Row("start", 4, "s", 5, "less")
    free = Row("read", 4, "s")
    assert missed([Outcome("head", "the head", [slow, large, well, free], 1)]) == [
        "submits: 150/s, goal ≥ 300/s, missed 2 times; bound: the disk 200/s (python -m bench.head)",
        "memory: 2,048 MiB, goal ≤ 1,024 MiB, missed 2 times (python -m bench.head)",
    ]


def test_several_runs_give_the_median_of_each_figure_with_what_was_measured_beside_it() -> None:
    figures = ((1, 9), (5, 7), (3, 8))
    runs = [Outcome("log", "the log", [Row("a", a, "/s", bound=f"{a}"), Row("b", b, "s")], 1) for a, b in figures]
    found = median(runs)
    assert [(row.figure, row.bound) for row in found.rows] == [(3, "3"), (8, "")]
    assert found.took_s == 3


def test_a_run_that_broke_is_not_hidden_by_the_others() -> None:
    runs = [Outcome("log", "the log", [Row("a", 1, "/s")], 1), Outcome("log", "log", [], 1, "broke")]
    assert median(runs).error == "broke"


def test_a_table_is_as_wide_as_a_terminal() -> None:
    wordy = Row("w" * 90, 123456789.0, "events/s", 1e9, peers="p " * 80, bound="b " * 80, note="[n]", command="c")
    page = io.StringIO()
    print_table(Console(file=page, width=WIDTH), "wide", [wordy])
    lines = page.getvalue().splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert "123,456,789 events/s" in page.getvalue()
    assert "≥ 1,000,000,000 events/s ✗ 8.1 times" in page.getvalue()
    assert "[n]" in page.getvalue()
