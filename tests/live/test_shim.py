"""One shim, without an agent: it must write down the truth whatever happens around it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from mycelium.agent.shim import pump
from mycelium.agent.steps.launcher import Launcher
from mycelium.agent.steps.prepare import write_spec
from mycelium.base import files
from mycelium.base.ids import StepId
from mycelium.base.limits import LOG_SEGMENT_BYTES
from mycelium.base.units import GIB, MIB
from mycelium.engine import step_files
from mycelium.engine.orders import Sandbox, Step
from mycelium.engine.spec import Spec
from mycelium.nodes.model import Devices
from mycelium.sandbox import process, usage
from tests.live.conformance.play import processes_of

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")


def prepare(directory: Path, script: str, *, cgroup: str | None = None, **more: Any) -> Path:
    """A naked step's directory, ready for a shim."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "work").mkdir()
    step = Step(
        id=StepId("job-1-a1-r0"),
        command=("/bin/sh", "-c", script),
        devices=Devices(1000, 256 * MIB),
        time_ms=0,
        grace_ms=300,
        sandbox=Sandbox.NONE,
    )
    write_spec(Spec(replace(step, **more), disk_bytes=GIB, path="/usr/bin:/bin", cgroup=cgroup), directory)
    return directory


def keep(*directories: Path, meanwhile: Any = None) -> None:
    """Launch one shim for each, and wait until all have ended."""

    async def script() -> None:
        launcher = Launcher()
        try:
            fds: list[int] = []
            for directory in directories:
                pid = await launcher.launch(directory)
                with contextlib.suppress(ProcessLookupError):  # it is over already
                    fds.append(os.pidfd_open(pid))
            if meanwhile is not None:
                await asyncio.to_thread(meanwhile)
            for fd in fds:
                ended = asyncio.Event()
                asyncio.get_running_loop().add_reader(fd, ended.set)
                async with asyncio.timeout(60):
                    await ended.wait()
                asyncio.get_running_loop().remove_reader(fd)
                os.close(fd)
        finally:
            launcher.close()

    asyncio.run(script())


def status(directory: Path) -> dict[str, Any]:
    found = step_files.read_json(str(directory / step_files.STATUS))
    assert found is not None
    return found


def log(directory: Path, stream: str = "stdout") -> bytes:
    return b"".join(Path(path).read_bytes() for _, path in pump.segments(str(directory), stream))


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "small", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_the_status_says_how_long_and_how_much(tmp_path: Path) -> None:
    step = prepare(tmp_path / "step", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; sleep 0.3; exit 3")
    before_ns = time.time_ns()
    keep(step)
    found = status(step)
    assert (found["reason"], found["exit_code"], found["message"]) == ("exit", 3, "")
    assert before_ns <= found["started_ns"] <= found["ended_ns"] - 300_000_000
    assert found["cpu_ms"] > 0


def test_a_step_is_never_run_twice(tmp_path: Path) -> None:
    step = prepare(tmp_path / "step", "echo once; sleep 0.2")
    keep(step, step, step)
    assert log(step) == b"once\n"
    assert status(step)["exit_code"] == 0


def test_a_step_that_has_ended_is_not_run_again(tmp_path: Path) -> None:
    step = prepare(tmp_path / "step", "echo once")
    keep(step)
    keep(step)
    assert log(step) == b"once\n"


def test_a_directory_without_a_readable_spec_is_left_alone(tmp_path: Path) -> None:
    step = prepare(tmp_path / "step", "true")
    (step / step_files.SPEC).write_bytes(b'{"step": ')
    keep(step)
    assert not (step / step_files.STATUS).exists()
    assert not (step / step_files.PID).exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"command": ("/etc",)}, "Permission denied"),
        ({"command": ("./script",)}, "No such file"),
        ({"command": ("/bin/true", "a\0b")}, "null"),
        ({"env": {"A": "b\0c"}}, "null"),
        ({"env": {"": "b"}}, "environment"),
    ],
)
def test_what_cannot_be_run_fails_to_start_with_a_reason(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    step = prepare(tmp_path / "step", "true", **more)
    keep(step)
    found = status(step)
    assert (found["reason"], found["exit_code"]) == ("failed-start", 127)
    assert message in found["message"]


def test_a_payload_that_closes_its_outputs_goes_on(tmp_path: Path) -> None:
    step = prepare(tmp_path / "step", "exec >&- 2>&-; sleep 0.2; exit 4")
    keep(step)
    assert status(step)["exit_code"] == 4


def test_a_process_that_holds_the_output_open_does_not_keep_the_step(tmp_path: Path) -> None:
    step = prepare(tmp_path / "step", "sleep 600 & echo done; exit 5")
    keep(step)
    assert (status(step)["exit_code"], log(step)) == (5, b"done\n")
    assert processes_of(step) == {}


def test_the_payload_dies_with_its_shim(tmp_path: Path) -> None:
    step = prepare(tmp_path / "step", "touch here; exec sleep 600")

    def kill_the_shim() -> None:
        wait_for(step / "work" / "here")
        shim = process.read(str(step / step_files.PID))
        assert shim is not None
        (payload,) = (pid for pid, parent in usage.parents().items() if parent == shim.pid)
        fd = os.pidfd_open(payload)
        os.kill(shim.pid, signal.SIGKILL)
        poll = select.poll()
        poll.register(fd)
        assert poll.poll(10_000)
        os.close(fd)

    keep(step, meanwhile=kill_the_shim)
    assert not (step / step_files.STATUS).exists()


def test_an_order_to_stop_uses_the_grace_that_it_names(tmp_path: Path) -> None:
    step = prepare(tmp_path / "step", "trap '' TERM; touch here; while :; do sleep 0.02; done", grace_ms=600_000)

    def stop() -> None:
        wait_for(step / "work" / "here")
        files.write(str(step / step_files.STOP), b"100")
        shim = process.read(str(step / step_files.PID))
        assert shim is not None
        assert shim.signal(signal.SIGTERM)

    keep(step, meanwhile=stop)
    found = status(step)
    assert (found["reason"], found["exit_code"]) == ("stopped", 137)
    assert found["ended_ns"] - found["started_ns"] >= 100_000_000


def test_memory_of_naked_steps_is_watched_too(tmp_path: Path) -> None:
    program = "import time; held = b'x' * (200 << 20); time.sleep(20)"
    step = prepare(
        tmp_path / "step",
        f'python3 -c "{program}" & python3 -c "{program}" & wait',
    )
    keep(step)
    found = status(step)
    assert found["reason"] == "memory"
    assert "256M" in found["message"]
    assert found["memory_peak_bytes"] > 256 * MIB


@needs_root
def test_a_full_disk_loses_log_but_neither_hangs_the_payload_nor_loses_the_status(small_disk: Path) -> None:
    """The payload fills the disk, goes on writing its log, and exits with 6."""
    text = "cat /dev/zero >fill 2>/dev/null; head -c 4000000 /dev/zero; head -c 4000000 /dev/zero >&2; exit 6"
    step = prepare(small_disk / "step", text)
    keep(step)
    found = status(step)
    assert (found["reason"], found["exit_code"]) == ("exit", 6)
    assert len(log(step)) < 1_000_000


@needs_root
def test_a_status_that_finds_no_room_takes_that_of_the_oldest_log(small_disk: Path) -> None:
    """Nothing was reserved, as if that had failed too; the log fills the disk."""
    step = prepare(
        small_disk / "step",
        f"rm -f {small_disk}/step/status.reserved; head -c {2 * LOG_SEGMENT_BYTES} /dev/zero; exit 7",
    )
    keep(step)
    assert status(step)["exit_code"] == 7


@needs_root
def test_a_status_waits_for_room_rather_than_be_lost(small_disk: Path) -> None:
    step = prepare(
        small_disk / "step", f"cd /; rm -f {small_disk}/step/status.reserved; cat /dev/zero >{small_disk}/fill; exit 8"
    )

    def make_room() -> None:
        wait_for(step / step_files.PID)
        shim = process.read(str(step / step_files.PID))
        assert shim is not None
        wait_for(small_disk / "fill")
        time.sleep(1.5)
        assert shim.lives()
        assert not (step / step_files.STATUS).exists()
        (small_disk / "fill").unlink()

    keep(step, meanwhile=make_room)
    assert status(step)["exit_code"] == 8


def test_a_shim_whose_directory_was_taken_away_ends(tmp_path: Path) -> None:
    step = prepare(tmp_path / "step", "touch here; sleep 0.5")

    def take_away() -> None:
        wait_for(step / "work" / "here")
        step.rename(tmp_path / "elsewhere")

    keep(step, meanwhile=take_away)
    assert processes_of(step) == {}
