"""Kernels with `cache=True`: what one process computed, the next one does not compute again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SCRIPT = """
import sys
import time
import mycelium as my

MARK, COUNT, SLOW = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])

@my.kernel(cache=True)
def counted(mark: str, slow: float, x: int) -> list[int]:
    time.sleep(slow)
    with open(mark, "a") as file:
        file.write(f"{x}\\n")
    return [x, 10 * x]

@my.program
def all_of(mark: str, slow: float, xs: list[int]) -> list[list[int]]:
    return my.map(counted, my.ref(mark), my.ref(slow), xs)

if __name__ == "__main__":
    print(sum(map(sum, all_of(MARK, SLOW, list(range(COUNT))))))
"""


def start(tmp_path: Path, count: int, slow: float = 0.0) -> subprocess.Popen[str]:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    words = [sys.executable, str(script), str(tmp_path / "mark"), str(count), str(slow)]
    env = {**os.environ, "MYC_HOME": str(tmp_path / "home")}
    return subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True)


def calls(tmp_path: Path) -> list[int]:
    mark = tmp_path / "mark"
    return sorted(map(int, mark.read_text().split())) if mark.exists() else []


def test_a_second_process_computes_only_what_is_new(tmp_path: Path) -> None:
    assert start(tmp_path, 20).communicate()[0] == f"{11 * sum(range(20))}\n"
    assert start(tmp_path, 30).communicate()[0] == f"{11 * sum(range(30))}\n"
    assert calls(tmp_path) == list(range(30))


def test_a_killed_process_leaves_what_it_has_finished(tmp_path: Path) -> None:
    first = start(tmp_path, 100, 0.05)
    while len(list((tmp_path / "home").glob("results/named/*/*"))) < 2:
        assert first.poll() is None
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = len(calls(tmp_path))
    assert start(tmp_path, 100, 0.05).communicate()[0] == f"{11 * sum(range(100))}\n"
    assert len(calls(tmp_path)) < before + 100
