"""Compiled programs of strangers on this machine: in the sandbox, within bounds, with nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.live.walls import needs_sandbox

SOURCE = """
import os
import socket
import time
import mycelium as my

WAT = '''(module (memory (export "memory") 1)
  (func (export "spin") (param i64) (result i64) (loop (br 0)) (unreachable)))'''

@my.kernel
def look(path: str) -> list[str]:
    try:
        socket.create_connection(("192.0.2.1", 9), 1)
    except OSError as error:
        net = error.errno
    return [str(os.getuid()), str(os.path.exists(path)), str(net)]

@my.kernel
def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds

@my.kernel
def eat(count: int) -> int:
    held = [bytearray(b"x" * 1_000_000) for _ in range(count)]
    time.sleep(30)
    return len(held)

@my.kernel
def tenth(x: int) -> float:
    print("dividing by", x)
    return 10 / x

@my.program
def looks(path: str) -> list[str]:
    return look(path)

@my.program
def sleeps(seconds: float) -> float:
    return sleep(seconds)

@my.program
def eats(count: int) -> int:
    return eat(count)

@my.program
def tenths(xs: list[int]) -> list[float]:
    return my.map(tenth, xs)
"""
SPIN = """

@my.kernel(wasm=my.wasm(WAT, "spin", fuel=1_000_000_000_000))
def spin(x: int) -> int: ...

@my.program
def spins(x: int) -> int:
    return spin(x)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the programs, compiled."""
    place = tmp_path_factory.mktemp("boxed")
    (place / "strange.py").write_text(SOURCE)
    (place / "spinning.py").write_text(SOURCE + SPIN)
    return place


def start(place: Path, *words: str, path: str = "") -> subprocess.Popen[str]:
    env = {**os.environ, "MYC_HOME": str(place / "home"), "TMPDIR": str(place)}
    env |= {"PATH": path} if path else {}
    command = [sys.executable, "-m", "mycelium.cli.main", "polymer", *words]
    return subprocess.Popen(command, cwd=place, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(place: Path, name: str, given: str, *words: str, source: str = "strange") -> tuple[int, str, str]:
    """Exit code, output and errors of a program that was compiled here."""
    file = place / f"{name}.pmr"
    if not file.exists():
        assert start(place, "compile", f"{source}.py:{name}", "-o", file.name).wait() == 0
    running = start(place, "run", file.name, "--input", given, *words)
    out, errors = running.communicate()
    assert not list(place.glob("myc-run-*"))
    return running.returncode, out, errors


@needs_sandbox
def test_a_strangers_python_sees_itself_and_nothing_else(place: Path) -> None:
    unreachable = 101  # ENETUNREACH
    assert run(place, "looks", f"path={place}/strange.py")[:2] == (0, f'["1000", "False", "{unreachable}"]\n')


@needs_sandbox
def test_its_failure_is_told_with_the_call_and_what_it_printed(place: Path) -> None:
    code, out, errors = run(place, "tenths", "xs=[5, 0]")
    assert (code, out) == (1, "")
    assert "dividing by 5" in errors
    assert "return 10 / x" in errors
    assert "ZeroDivisionError" in errors
    assert "kernel tenth, call 1, input " in errors


@needs_sandbox
def test_time_and_memory_are_bounded(place: Path) -> None:
    code, _, errors = run(place, "sleeps", "seconds=60", "--time", "1s")
    assert (code, "ran longer than 1s" in errors) == (6, True), errors
    code, _, errors = run(place, "eats", "count=1000", "--memory", "500M")
    assert (code, "memory" in errors) == (6, True), errors


@needs_sandbox
def test_webassembly_that_never_ends_is_ended(place: Path) -> None:
    pytest.importorskip("wasmtime", reason="the extra `wasm` is not installed")
    code, _, errors = run(place, "spins", "x=1", "--time", "1s", source="spinning")
    assert (code, "ran longer than 1s" in errors) == (6, True), errors


def test_a_trusted_program_can_be_bounded_too(place: Path) -> None:
    code, out, errors = run(place, "sleeps", "seconds=0.25", "--trust", "--time", "1m", "--verbose")
    assert (code, out) == (0, "0.25\n")
    assert "call sleep: 1 calls, " in errors


def keepers(place: Path) -> list[psutil.Process]:
    """Processes of a run: those whose command line or environment names its directory."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(f"{place}/myc-run-" in word for word in process.info["cmdline"] or ()):
            found += [process, *process.children(recursive=True)]
    return found


@needs_sandbox
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_caller_that_ends_takes_its_program_with_it(place: Path, how: signal.Signals) -> None:
    run(place, "sleeps", "seconds=0")
    caller = start(place, "run", "sleeps.pmr", "--input", "seconds=100")
    limit = time.monotonic() + 30
    while len(keepers(place)) < 4 and time.monotonic() < limit:  # the keeper, the sandbox, the driver, a worker
        time.sleep(0.05)
    running = keepers(place)
    assert len(running) >= 4
    caller.send_signal(how)
    caller.communicate()
    _, alive = psutil.wait_procs(running, timeout=15)
    assert not alive
    assert not list(place.glob("myc-run-*"))
