"""What every engine must do with steps: start, report, stop, forget."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from mycelium.engine.orders import Exited, Reason, Sandbox, Start, Started
from tests.live.conformance.play import NODE, Site, Stage, shell


def test_a_step_starts_and_exits_with_its_code(stage: Stage, sandbox: Sandbox) -> None:
    async def script(site: Site) -> None:
        step = await site.start(shell("job-1-a1-r0", "exit 3", sandbox=sandbox))
        started = await site.started(step.id)
        ended = await site.exited(step.id)
        assert (ended.reason, ended.exit_code) == (Reason.EXIT, 3)
        assert 0 < started.started_ns <= ended.ended_ns

    stage.play(script)


def test_a_step_killed_by_a_signal_exits_as_shells_say_it(stage: Stage, sandbox: Sandbox) -> None:
    async def script(site: Site) -> None:
        await site.start(shell("job-1-a1-r0", "kill -ABRT $$", sandbox=sandbox))
        assert (await site.exited("job-1-a1-r0")).exit_code == 128 + 6

    stage.play(script)


def test_stdout_and_stderr_are_kept_apart(stage: Stage, sandbox: Sandbox) -> None:
    async def script(site: Site) -> None:
        await site.start(shell("job-1-a1-r0", "echo out; echo err >&2", sandbox=sandbox))
        await site.start(shell("job-2-a1-r0", "true", sandbox=sandbox))
        loud, silent = await site.exited("job-1-a1-r0"), await site.exited("job-2-a1-r0")
        assert (site.text(loud.stdout), site.text(loud.stderr)) == ("out\n", "err\n")
        assert (silent.stdout, silent.stderr) == (None, None)

    stage.play(script)


def test_a_step_gets_its_environment_and_nothing_of_the_agents(stage: Stage, sandbox: Sandbox) -> None:
    async def script(site: Site) -> None:
        step = shell("job-1-a1-r0", "env", sandbox=sandbox, env={"MYC_JOB": "job-1", "ODD": "a b=c\nd"})
        await site.start(step)
        text = site.text((await site.exited(step.id)).stdout)
        assert "MYC_JOB=job-1\n" in text
        assert "ODD=a b=c\nd\n" in text
        names = {line.partition("=")[0] for line in text.splitlines() if "=" in line}
        names.discard("MYC_POOL")  # an engine that has a pool of its own offers it to whoever needs no sandbox
        assert names <= {"MYC_JOB", "ODD", "PATH", "HOME", "TMPDIR", "LANG", "PWD", "SHLVL", "_", "OLDPWD"}

    stage.play(script)


def test_a_command_that_does_not_exist_fails_to_start_and_is_named(stage: Stage, sandbox: Sandbox) -> None:
    async def script(site: Site) -> None:
        step = shell("job-1-a1-r0", "", sandbox=sandbox)
        await site.start(replace(step, command=("no-such",)))
        ended = await site.exited(step.id)
        assert (ended.reason, ended.exit_code) == (Reason.FAILED_START, 127)
        assert "no-such" in ended.message

    stage.play(script)


def test_the_same_order_to_start_runs_a_step_once(stage: Stage) -> None:
    async def script(site: Site) -> None:
        step = shell("job-1-a1-r0", "echo once; sleep 0.2")
        for _ in range(3):
            await site.start(step)
        ended = await site.exited(step.id)
        again = len(site.said)
        await site.start(step)
        assert await site.exited(step.id, after=again) == ended
        assert site.text(ended.stdout) == "once\n"

    stage.play(script)


def test_an_end_is_repeated_until_it_is_forgotten_and_never_after(stage: Stage) -> None:
    async def script(site: Site) -> None:
        await site.start(shell("job-1-a1-r0", "true"))
        await site.exited("job-1-a1-r0")
        for _ in range(2):
            await site.beat(lambda beat: [gone.step for gone in beat.gone] == ["job-1-a1-r0"])
        for _ in range(2):
            await site.forget("job-1-a1-r0")
        await site.beat(lambda beat: beat.gone == ())
        assert not site.directory("job-1-a1-r0").exists()

    stage.play(script)


def test_a_forgotten_step_is_not_started_again_by_a_late_order(stage: Stage) -> None:
    async def script(site: Site) -> None:
        step = await site.start(shell("job-1-a1-r0", "true"))
        await site.exited(step.id)
        await site.forget(step.id)
        await site.beat(lambda beat: beat.gone == ())
        late = len(site.said)
        await site.start(step)
        assert (await site.exited(step.id, after=late)).reason is Reason.LOST
        assert not any(isinstance(said, Started) for said in site.said[late:])

    stage.play(script)


def test_a_running_step_cannot_be_forgotten(stage: Stage) -> None:
    async def script(site: Site) -> None:
        await site.start(shell("job-1-a1-r0", "sleep 60"))
        await site.started("job-1-a1-r0")
        await site.forget("job-1-a1-r0")
        await site.beat(lambda beat: [running.step for running in beat.running] == ["job-1-a1-r0"])

    stage.play(script)


def test_stop_gives_a_step_its_grace(stage: Stage, sandbox: Sandbox) -> None:
    async def script(site: Site) -> None:
        text = "trap 'echo saved; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
        await site.start(shell("job-1-a1-r0", text, sandbox=sandbox))
        await site.tail(1, "job-1-a1-r0")
        await site.until(lambda said: True if getattr(said, "data", b"") == b"ready\n" else None)
        for _ in range(2):
            await site.stop("job-1-a1-r0", grace_ms=30_000)
        ended = await site.exited("job-1-a1-r0")
        assert (ended.reason, ended.exit_code) == (Reason.STOPPED, 7)
        assert site.text(ended.stdout) == "ready\nsaved\n"

    stage.play(script)


def test_what_ignores_the_order_to_stop_is_killed_after_the_grace_and_all_its_processes_too(
    stage: Stage, sandbox: Sandbox
) -> None:
    async def script(site: Site) -> None:
        text = "trap '' TERM; (trap '' TERM; setsid sleep 600 & sleep 600) & echo ready; sleep 600; sleep 600"
        await site.start(shell("job-1-a1-r0", text, sandbox=sandbox))
        await site.tail(1, "job-1-a1-r0")
        await site.until(lambda said: True if getattr(said, "data", b"") == b"ready\n" else None)
        await site.stop("job-1-a1-r0", grace_ms=200)
        ended = await site.exited("job-1-a1-r0")
        assert (ended.reason, ended.exit_code) == (Reason.STOPPED, 128 + 9)

    stage.play(script)  # and finds no process left


def test_a_second_order_to_stop_can_only_shorten_the_grace(stage: Stage) -> None:
    async def script(site: Site) -> None:
        await site.start(shell("job-1-a1-r0", "trap '' TERM; echo ready; while :; do sleep 0.05; done"))
        await site.tail(1, "job-1-a1-r0")
        await site.until(lambda said: True if getattr(said, "data", b"") == b"ready\n" else None)
        await site.stop("job-1-a1-r0", grace_ms=600_000)
        await site.stop("job-1-a1-r0", grace_ms=0)
        assert (await site.exited("job-1-a1-r0")).reason is Reason.STOPPED

    stage.play(script)


def test_a_step_that_is_stopped_as_it_is_started_ends_as_stopped(stage: Stage, sandbox: Sandbox) -> None:
    async def script(site: Site) -> None:
        for number in range(1, 11):
            name = f"job-{number}-a1-r0"
            await site.start(shell(name, "sleep 600", sandbox=sandbox))
            await asyncio.sleep(number * 0.002)
            await site.stop(name, grace_ms=1_000)
            assert (await site.exited(name)).reason is Reason.STOPPED

    stage.play(script)


def test_a_time_limit_ends_a_step_with_its_grace(stage: Stage, sandbox: Sandbox) -> None:
    async def script(site: Site) -> None:
        text = "trap 'echo saved; exit 9' TERM; while :; do sleep 0.05; done"
        await site.start(shell("job-1-a1-r0", text, sandbox=sandbox, time_ms=700))
        ended = await site.exited("job-1-a1-r0")
        assert (ended.reason, ended.exit_code, site.text(ended.stdout)) == (Reason.TIME, 9, "saved\n")
        assert ended.ended_ns - ended.started_ns >= 700_000_000

    stage.play(script)


def test_stopping_a_step_that_nobody_knows_says_lost(stage: Stage) -> None:
    async def script(site: Site) -> None:
        await site.stop("job-9-a1-r0")
        assert (await site.exited("job-9-a1-r0")).reason is Reason.LOST

    stage.play(script)


def test_daemons_of_a_step_end_with_it(stage: Stage, sandbox: Sandbox) -> None:
    async def script(site: Site) -> None:
        await site.start(
            shell("job-1-a1-r0", "(setsid setsid sleep 600 >/dev/null 2>&1 &) ; echo done", sandbox=sandbox)
        )
        ended = await site.exited("job-1-a1-r0")
        assert (ended.exit_code, site.text(ended.stdout)) == (0, "done\n")

    stage.play(script)  # and finds no process left


def test_a_hundred_steps_at_once_all_end(stage: Stage, sandbox: Sandbox) -> None:
    async def script(site: Site) -> None:
        names = [f"job-{number}-a1-r0" for number in range(1, 101)]
        for number, name in enumerate(names):
            await site.engine.send(NODE, Start(shell(name, f"echo {number}; exit {number % 5}", sandbox=sandbox)))
        for number, name in enumerate(names):
            ended = await site.exited(name)
            assert (ended.exit_code, site.text(ended.stdout)) == (number % 5, f"{number}\n"), ended
        assert len({said.step for said in site.said if isinstance(said, Exited)}) == 100

    stage.play(script)
