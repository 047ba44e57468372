"""What must outlive what: steps their agent, agents their head, and nothing its site."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from mycelium.base.ids import NodeId
from mycelium.engine.orders import Reason, Sandbox
from mycelium.engine.seam import NodeDown
from mycelium.sandbox import process
from tests.live.conformance.play import MAKERS, NODE, Site, Stage, kill, running, shell


def test_every_node_says_hello_with_what_it_has(stage: Stage) -> None:
    async def script(site: Site) -> None:
        names: set[str] = set()
        for number in (1, 2, 3):
            hello = await site.up(NodeId(f"node-{number}"))
            assert hello.devices.cpu_m >= 1000
            assert hello.devices.memory_bytes > 0
            assert hello.labels["os"] == "linux"
            names.add(hello.name)
        assert len(names) == 3

    stage.play(script, nodes=3)


def test_a_step_survives_its_agent_and_is_adopted_by_the_next(stage: Stage, sandbox: Sandbox) -> None:
    async def script(site: Site) -> None:
        text = "while [ ! -e go ]; do sleep 0.02; done; echo still here; exit 4"
        await site.start(shell("job-1-a1-r0", text, sandbox=sandbox))
        started = await site.started("job-1-a1-r0")
        shim = site.shim("job-1-a1-r0")
        here = len(site.said)
        kill(site.agent())
        await site.down(after=here)
        await site.up(after=here)
        beat = await site.beat()
        assert [running.step for running in beat.running] == ["job-1-a1-r0"]
        assert abs(beat.running[0].started_ns - started.started_ns) < 1_000_000_000
        assert site.shim("job-1-a1-r0") == shim
        (site.directory("job-1-a1-r0") / "work" / "go").touch()
        ended = await site.exited("job-1-a1-r0")
        assert (ended.exit_code, site.text(ended.stdout)) == (4, "still here\n")

    stage.play(script)


def test_a_step_that_ends_while_its_agent_is_dead_is_reported_by_the_next(stage: Stage) -> None:
    async def script(site: Site) -> None:
        await site.start(shell("job-1-a1-r0", "while [ ! -e go ]; do sleep 0.02; done; exit 5"))
        await site.started("job-1-a1-r0")
        os.kill(site.agent().pid, signal.SIGSTOP)
        shim = site.shim("job-1-a1-r0")
        (site.directory("job-1-a1-r0") / "work" / "go").touch()
        assert shim.wait_gone(30)
        kill(site.agent())
        assert (await site.exited("job-1-a1-r0")).exit_code == 5

    stage.play(script)


def test_a_step_whose_shim_was_killed_is_lost_and_leaves_nothing_running(stage: Stage, sandbox: Sandbox) -> None:
    async def script(site: Site) -> None:
        text = "(setsid sleep 600 &) ; sleep 600 & echo ready; wait"
        await site.start(shell("job-1-a1-r0", text, sandbox=sandbox))
        await site.tail(1, "job-1-a1-r0")
        await site.until(lambda said: True if getattr(said, "data", b"") == b"ready\n" else None)
        kill(site.shim("job-1-a1-r0"))
        assert (await site.exited("job-1-a1-r0")).reason is Reason.LOST

    stage.play(script)  # and finds no process left


def test_a_step_whose_agent_and_shim_were_killed_is_lost(stage: Stage, sandbox: Sandbox) -> None:
    async def script(site: Site) -> None:
        await site.start(shell("job-1-a1-r0", "sleep 600", sandbox=sandbox))
        await site.started("job-1-a1-r0")
        kill(site.agent())
        kill(site.shim("job-1-a1-r0"))
        assert (await site.exited("job-1-a1-r0")).reason is Reason.LOST

    stage.play(script)


def test_steps_go_on_while_the_head_is_down(stage: Stage, sandbox: Sandbox) -> None:
    async def before(site: Site) -> None:
        await site.start(
            shell("job-1-a1-r0", "echo one; while [ ! -e go ]; do sleep 0.02; done; exit 6", sandbox=sandbox)
        )
        await site.start(shell("job-2-a1-r0", "sleep 0.3; echo two; exit 7", sandbox=sandbox))
        await site.started("job-1-a1-r0")
        await site.started("job-2-a1-r0")

    async def after(site: Site) -> None:
        second = await site.exited("job-2-a1-r0")
        assert (second.exit_code, site.text(second.stdout)) == (7, "two\n")
        await site.beat(lambda beat: [running.step for running in beat.running] == ["job-1-a1-r0"])
        (site.directory("job-1-a1-r0") / "work" / "go").touch()
        first = await site.exited("job-1-a1-r0")
        assert (first.exit_code, site.text(first.stdout)) == (6, "one\n")

    stage.play(before, after)


def test_an_agent_outlives_a_head_that_is_killed(stage: Stage) -> None:
    """The first head is a process of its own that is killed; the second finds its agent and its step."""
    home = str(stage.home)
    program = f"""
import asyncio, pathlib
from tests.live.conformance.play import MAKERS, running, shell
async def main():
    home = pathlib.Path({home!r})
    async with running(MAKERS[{stage.kind!r}](home, 1), home, stop_steps=True) as site:
        await site.up()
        await site.start(shell("job-1-a1-r0", "while [ ! -e go ]; do sleep 0.02; done; exit 5"))
        await site.started("job-1-a1-r0")
        print("ready", flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""
    first = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "ready\n"
    first.kill()
    first.wait()
    first.stdout.close()
    agent = process.read(str(stage.home / "nodes" / NODE / "agent.pid"))

    async def script(site: Site) -> None:
        assert site.agent() == agent
        (site.directory("job-1-a1-r0") / "work" / "go").touch()
        assert (await site.exited("job-1-a1-r0")).exit_code == 5

    stage.play(script)


def test_an_agent_that_is_stopped_blocks_no_other(stage: Stage) -> None:
    async def script(site: Site) -> None:
        frozen = site.agent(NODE)
        os.kill(frozen.pid, signal.SIGSTOP)
        try:
            for number in range(1, 51):
                await site.start(shell(f"job-{number}-a1-r0", "true", env={"FILL": "x" * 20_000}), NODE)
            await site.start(shell("job-99-a1-r0", "exit 8"), NodeId("node-2"))
            assert (await site.exited("job-99-a1-r0")).exit_code == 8
            assert not any(isinstance(said, NodeDown) for said in site.said)
        finally:
            os.kill(frozen.pid, signal.SIGCONT)
        assert (await site.exited("job-50-a1-r0")).exit_code == 0

    stage.play(script, nodes=2)


def test_a_stopped_agent_is_ended_with_the_site(stage: Stage) -> None:
    async def script(site: Site) -> None:
        await site.start(shell("job-1-a1-r0", "sleep 600"))
        await site.started("job-1-a1-r0")
        os.kill(site.agent().pid, signal.SIGSTOP)

    stage.play(script)  # and finds no process left


def test_agents_end_by_themselves_when_their_home_is_gone(stage: Stage) -> None:
    async def script(site: Site) -> None:
        agent = site.agent()
        shutil.rmtree(site.home / "nodes")
        assert await asyncio.to_thread(agent.wait_gone, 30)

    stage.play(script)


def test_a_second_agent_for_the_same_node_gives_way(stage: Stage) -> None:
    async def script(site: Site) -> None:
        agent = site.agent()
        words = Path(f"/proc/{agent.pid}/cmdline").read_bytes().split(b"\0")[:-1]
        second = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.PIPE)
        _, said = await second.communicate()
        assert second.returncode == 75
        assert b"another agent has node-1" in said
        assert site.agent() == agent

    stage.play(script)


def test_stopping_with_steps_stops_them_gracefully_and_reports_them(stage: Stage, sandbox: Sandbox) -> None:
    async def script() -> None:
        async with running(MAKERS[stage.kind](stage.home, 1), stage.home, stop_steps=True) as site:
            await site.up()
            await site.start(
                shell("job-1-a1-r0", "trap 'exit 11' TERM; echo ready; while :; do sleep 0.01; done", sandbox=sandbox)
            )
            await site.tail(1, "job-1-a1-r0")
            await site.until(lambda said: True if getattr(said, "data", b"") == b"ready\n" else None)
            await site.engine.stop(stop_steps=True, grace_ms=20_000)
            ended = await site.exited("job-1-a1-r0")
            assert (ended.reason, ended.exit_code) == (Reason.STOPPED, 11)

    asyncio.run(script())
