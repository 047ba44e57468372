"""The demo is what a newcomer sees first: it must be true, and leave nothing behind however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.live.rig.net import needs_rig
from tests.live.site import wait_for

ROOT = Path(__file__).parents[2]
LONG = os.environ.get("MYC_TEST_LONG") == "1"


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the demo makes its directory: short, because sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="d") as place:
        monkeypatch.setenv("TMPDIR", place)
        yield place


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "demo", *words],
        cwd=ROOT,
        env=dict(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def left(place: str) -> list[object]:
    processes = [p for p in psutil.process_iter(["cmdline"]) if place in " ".join(p.info["cmdline"] or ())]
    return [*processes, *Path(place).iterdir()]


def test_everything_the_demo_claims_is_true(place: str):
    demo = start()
    said, _ = demo.communicate(timeout=170)
    assert demo.returncode == 0, said
    assert "all of it was true" in said
    assert "was run again" in said
    assert "✗" not in said
    assert left(place) == []


@needs_rig
@pytest.mark.timeout(600)
def test_it_is_true_on_three_hosts_of_which_one_is_killed_and_one_cut_off(place: str):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    demo = start("--hosts", "3", *([] if LONG else ["--short"]))
    said, _ = demo.communicate(timeout=500)
    assert demo.returncode == 0, said
    assert "the cable of node-" in said
    assert ("was run again" in said, "✗" in said, "all of it was true" in said) == (True, False, True)
    assert left(place) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_stopped_leaves_nothing_behind(place: str, number: signal.Signals):
    demo = start()
    wait_for(lambda: list(Path(place).glob("myc-demo-*/home/site.json")), "the demo's site to be up")
    demo.send_signal(number)
    demo.communicate(timeout=60)
    assert demo.returncode == 128 + number
    assert left(place) == []
