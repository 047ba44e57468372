"""One agent with a real engine: preparing, collecting, and what it makes of a broken disk."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from mycelium.base.ids import Digest, StepId
from mycelium.base.units import MIB
from mycelium.engine.local.engine import LocalEngine
from mycelium.engine.orders import Reason, Sandbox
from mycelium.sandbox import usage
from mycelium.store.collect import collect
from mycelium.store.directory import DirectoryObjects
from mycelium.store.unpack import unpack
from tests.live.conformance.play import NODE, Site, kill, processes_of, running, shell
from tests.live.walls import needs_sandbox

LEVELS = [Sandbox.NONE, pytest.param(Sandbox.PROCESS, marks=needs_sandbox)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def play(home: Path, script: Callable[[Site], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with running(LocalEngine(home), home, stop_steps=True) as site:
            await site.up()
            await script(site)

    asyncio.run(whole())
    assert processes_of(home) == {}


def tree(objects: DirectoryObjects, where: Path, **files: str) -> Digest:
    where.mkdir()
    for name, text in files.items():
        (where / name).write_text(text)
    found = collect(where, ("**",), objects, bytes_max=MIB)
    assert found is not None
    return found


@pytest.mark.parametrize("sandbox", LEVELS)
def test_a_step_begins_with_its_trees_and_its_outputs_are_collected(
    home: Path, tmp_path: Path, sandbox: Sandbox
) -> None:
    async def script(site: Site) -> None:
        step = shell(
            "job-1-a1-r0",
            "cat word in/first/word in/second/word >out; mkdir deep; cp out deep/copy; touch ignored; ls -l >&2",
            sandbox=sandbox,
            workdir=tree(site.objects, tmp_path / "a", word="one "),
            inputs=(
                ("in/first", tree(site.objects, tmp_path / "b", word="two ")),
                ("in/second", tree(site.objects, tmp_path / "c", word="three")),
            ),
            outputs=("out", "deep/**"),
        )
        await site.start(step)
        ended = await site.exited(step.id)
        assert ended.exit_code == 0, (ended, site.text(ended.stderr))
        assert ended.outputs is not None
        unpack(site.objects, ended.outputs, tmp_path / "got")
        got = {
            str(path.relative_to(tmp_path / "got")): path.read_text()
            for path in (tmp_path / "got").rglob("*")
            if path.is_file()
        }
        assert got == {"out": "one two three", "deep/copy": "one two three"}

    play(home, script)


def test_outputs_of_a_step_that_fails_are_not_collected(home: Path) -> None:
    async def script(site: Site) -> None:
        await site.start(shell("job-1-a1-r0", "echo x >out; exit 1", outputs=("out",)))
        ended = await site.exited("job-1-a1-r0")
        assert (ended.exit_code, ended.outputs) == (1, None)

    play(home, script)


def test_a_missing_tree_fails_the_start_with_its_name(home: Path) -> None:
    async def script(site: Site) -> None:
        missing = Digest("0" * 64)
        await site.start(shell("job-1-a1-r0", "true", workdir=missing))
        ended = await site.exited("job-1-a1-r0")
        assert (ended.reason, ended.exit_code) == (Reason.FAILED_START, 127)
        assert missing[:12] in ended.message

    play(home, script)


@pytest.mark.parametrize("path", ["../outside", "/absolute", "a\0b", "word/below-a-file"])
def test_an_input_that_would_lie_elsewhere_fails_the_start(home: Path, tmp_path: Path, path: str) -> None:
    async def script(site: Site) -> None:
        start = tree(site.objects, tmp_path / "a", word="one")
        await site.start(shell("job-1-a1-r0", "true", workdir=start, inputs=((path, start),)))
        assert (await site.exited("job-1-a1-r0")).reason is Reason.FAILED_START
        await site.start(shell("job-2-a1-r0", "true"))
        assert (await site.exited("job-2-a1-r0")).exit_code == 0

    play(home, script)


def test_an_input_is_never_unpacked_through_a_link_of_the_job(home: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()

    async def script(site: Site) -> None:
        source = tmp_path / "a"
        source.mkdir()
        (source / "in").symlink_to(outside)
        start = collect(source, ("**",), site.objects, bytes_max=MIB)
        step = shell(
            "job-1-a1-r0", "true", workdir=start, inputs=(("in/x", tree(site.objects, tmp_path / "b", word="1")),)
        )
        await site.start(step)
        assert (await site.exited(step.id)).reason is Reason.FAILED_START
        assert list(outside.iterdir()) == []

    play(home, script)


def test_a_step_whose_name_is_a_path_is_ignored(home: Path) -> None:
    async def script(site: Site) -> None:
        for name in ("../../escape", "job-1-a1-r0/../..", "", "job-1-a1-r0\n"):
            await site.start(msgspec.structs.replace(shell("job-1-a1-r0", "touch here"), id=StepId(name)))
        await site.start(shell("job-2-a1-r0", "true"))
        assert (await site.exited("job-2-a1-r0")).exit_code == 0
        assert [path.name for path in site.directory("job-2-a1-r0").parent.iterdir()] == ["job-2-a1-r0"]

    play(home, script)


def test_a_fork_server_that_is_killed_costs_no_step(home: Path) -> None:
    async def script(site: Site) -> None:
        for number in range(1, 4):
            agent = site.agent().pid
            (server,) = (pid for pid, parent in usage.parents().items() if parent == agent)
            os.kill(server, signal.SIGKILL)
            await site.start(shell(f"job-{number}-a1-r0", "exit 4"))
            assert (await site.exited(f"job-{number}-a1-r0")).exit_code == 4

    play(home, script)


@pytest.mark.parametrize(
    ("file", "garbage"), [("status", b"{"), ("status", b'{"reason": "nonsense"}'), ("status", b"\xff" * 99)]
)
def test_a_corrupt_status_is_a_loss_that_is_told(home: Path, file: str, garbage: bytes) -> None:
    async def script(site: Site) -> None:
        await site.start(shell("job-1-a1-r0", "true"))
        await site.exited("job-1-a1-r0")
        os.kill(site.agent().pid, signal.SIGSTOP)
        (site.directory("job-1-a1-r0") / file).write_bytes(garbage)
        (site.directory("job-1-a1-r0") / "ended").unlink()
        here = len(site.said)
        kill(site.agent())
        ended = await site.exited("job-1-a1-r0", after=here)
        assert ended.reason is Reason.LOST

    play(home, script)


def test_an_end_that_was_half_kept_is_kept_again(home: Path) -> None:
    async def script(site: Site) -> None:
        await site.start(shell("job-1-a1-r0", "echo said; exit 3"))
        first = await site.exited("job-1-a1-r0")
        os.kill(site.agent().pid, signal.SIGSTOP)
        (site.directory("job-1-a1-r0") / "ended").write_bytes(b'{"reason": ')
        assert first.stdout is not None
        site.objects.delete(first.stdout)
        here = len(site.said)
        kill(site.agent())
        again = await site.exited("job-1-a1-r0", after=here)
        assert (again, site.text(again.stdout)) == (first, "said\n")

    play(home, script)


def test_what_was_never_begun_is_cleared_away_and_may_be_started_again(home: Path) -> None:
    """A directory without a spec, one with half a spec, and one whose shim never came."""
    steps = home / "nodes" / NODE / "steps"
    for name in ("job-1-a1-r0", "job-2-a1-r0", "job-3-a1-r0", "job-4-a1-r0.gone-1-abc"):
        (steps / name / "work" / "deep").mkdir(parents=True)
    (steps / "job-2-a1-r0" / "spec").write_bytes(b'{"step": {')
    (steps / "stray-file").write_text("what is this")

    async def script(site: Site) -> None:
        beat = await site.beat()
        assert (beat.running, beat.gone) == ((), ())
        for number in (1, 2, 3):
            await site.start(shell(f"job-{number}-a1-r0", "exit 2"))
            assert (await site.exited(f"job-{number}-a1-r0")).exit_code == 2
        assert not (steps / "job-4-a1-r0.gone-1-abc").exists()

    play(home, script)


def test_a_step_may_leave_a_directory_that_is_hard_to_remove(home: Path) -> None:
    """Closed directories, odd names, and a tree deeper than any path is long."""

    async def script(site: Site) -> None:
        deep = "import os\nfor _ in range(3000):\n    os.mkdir('d' * 200)\n    os.chdir('d' * 200)\n"
        text = f"""
            mkdir -p a/b && touch a/b/c && chmod 0 a/b a
            touch -- '-rf' "$(printf 'new\\nline')"
            python3 -c "{deep}"
            """
        await site.start(shell("job-1-a1-r0", text, disk_bytes=1 << 30))
        ended = await site.exited("job-1-a1-r0")
        assert ended.exit_code == 0, site.text(ended.stderr)
        await site.forget("job-1-a1-r0")
        await site.beat(lambda beat: beat.gone == ())
        steps = site.directory("job-1-a1-r0").parent
        for _ in range(600):
            if not list(steps.iterdir()):
                break
            await asyncio.sleep(0.05)
        assert list(steps.iterdir()) == []

    play(home, script)


@pytest.fixture
def small_home(home: Path) -> Iterator[Path]:
    """A home on a disk of 300 MB, of which `DISK_RESERVE_BYTES` are 256."""
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m,mode=700", "small", str(home)], check=True)
    try:
        yield home
    finally:
        subprocess.run(["umount", "-l", str(home)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_nothing_is_started_on_a_disk_without_reserve_and_what_runs_ends_well(small_home: Path) -> None:
    async def script(site: Site) -> None:
        text = "while [ ! -e /tmp/go-$$ ] && [ ! -e go ]; do sleep 0.02; done; echo lost in a full disk; exit 9"
        await site.start(shell("job-1-a1-r0", text))
        await site.started("job-1-a1-r0")
        (site.directory("job-1-a1-r0") / "work" / "go").symlink_to("nowhere")
        fill = small_home / "fill"
        with fill.open("wb") as file:
            try:
                while True:
                    file.write(bytes(MIB))
                    file.flush()
            except OSError:
                pass
        await site.start(shell("job-2-a1-r0", "true"))
        refused = await site.exited("job-2-a1-r0")
        assert refused.reason is Reason.FAILED_START
        assert "256M" in refused.message
        await site.stop("job-1-a1-r0", grace_ms=100)
        ended = await site.exited("job-1-a1-r0")
        assert ended.reason is Reason.STOPPED
        fill.unlink()
        await site.start(shell("job-3-a1-r0", "exit 5"))
        assert (await site.exited("job-3-a1-r0")).exit_code == 5

    play(small_home, script)


def test_an_agent_says_what_it_cannot_read_on_its_command_line() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "mycelium.agent", "--node", "x"], capture_output=True, text=True, check=False
    )
    assert said.returncode == 2
    assert "required" in said.stderr
