"""What every engine must do with logs: from any offset, live, bounded."""

from __future__ import annotations

from mycelium.engine.orders import Chunk, Sandbox, Untail
from tests.live.conformance.play import NODE, Site, Stage, shell


def joined(chunks: list[Chunk]) -> bytes:
    return b"".join(chunk.data for chunk in chunks)


def test_a_followed_log_comes_as_it_is_written_and_ends_with_the_step(stage: Stage, sandbox: Sandbox) -> None:
    async def script(site: Site) -> None:
        await site.start(
            shell("job-1-a1-r0", "echo one; while [ ! -e go ]; do sleep 0.02; done; echo two", sandbox=sandbox)
        )
        await site.tail(1, "job-1-a1-r0")
        await site.until(lambda said: True if isinstance(said, Chunk) and said.data == b"one\n" else None)
        (site.directory("job-1-a1-r0") / "work" / "go").touch()
        chunks = await site.chunks(1)
        assert joined(chunks) == b"one\ntwo\n"
        assert [chunk.end for chunk in chunks] == [False] * (len(chunks) - 1) + [True]

    stage.play(script)


def test_a_log_is_read_from_any_offset(stage: Stage) -> None:
    async def script(site: Site) -> None:
        await site.start(shell("job-1-a1-r0", "seq 1 100000"))
        await site.exited("job-1-a1-r0")
        whole = b"".join(b"%d\n" % number for number in range(1, 100_001))
        for number, offset in enumerate((0, 5, 65_536, len(whole) - 1, len(whole), len(whole) + 10)):
            await site.tail(number, "job-1-a1-r0", offset=offset, follow=False)
            chunks = await site.chunks(number)
            assert joined(chunks) == whole[offset:]
            assert chunks[0].offset == offset

    stage.play(script)


def test_stderr_is_followed_apart_from_stdout(stage: Stage) -> None:
    async def script(site: Site) -> None:
        await site.start(shell("job-1-a1-r0", "echo out; echo err >&2"))
        await site.tail(1, "job-1-a1-r0", stream="stderr")
        assert joined(await site.chunks(1)) == b"err\n"

    stage.play(script)


def test_a_tail_of_what_is_not_here_ends_at_once(stage: Stage) -> None:
    async def script(site: Site) -> None:
        await site.tail(1, "job-9-a1-r0")
        assert joined(await site.chunks(1)) == b""
        await site.start(shell("job-1-a1-r0", "sleep 600"))
        await site.tail(2, "job-1-a1-r0", stream="spec")
        assert joined(await site.chunks(2)) == b""

    stage.play(script)


def test_untail_ends_a_tail_and_may_be_repeated(stage: Stage) -> None:
    async def script(site: Site) -> None:
        await site.start(shell("job-1-a1-r0", "while :; do echo more; sleep 0.01; done"))
        await site.tail(1, "job-1-a1-r0")
        await site.until(lambda said: said if isinstance(said, Chunk) else None)
        for _ in range(2):
            await site.engine.send(NODE, Untail(1))
        await site.beat()
        heard = len(site.said)
        await site.beat()
        assert not any(isinstance(said, Chunk) for said in site.said[heard:])

    stage.play(script)


def test_the_last_of_a_log_reaches_its_follower_though_the_step_is_forgotten(stage: Stage) -> None:
    async def script(site: Site) -> None:
        await site.start(shell("job-1-a1-r0", "seq 1 300000"))
        await site.tail(1, "job-1-a1-r0")
        await site.exited("job-1-a1-r0")
        await site.forget("job-1-a1-r0")
        assert joined(await site.chunks(1)).endswith(b"\n300000\n")

    stage.play(script)


def test_a_flood_is_bounded_and_its_newest_part_is_kept(stage: Stage, sandbox: Sandbox) -> None:
    """A hundred megabytes; sixty-four are kept."""

    async def script(site: Site) -> None:
        text = "head -c 100000000 /dev/zero | tr '\\0' x; echo the end"
        await site.start(shell("job-1-a1-r0", text, sandbox=sandbox))
        ended = await site.exited("job-1-a1-r0")
        assert ended.stdout is not None
        size = site.objects.size(ended.stdout)
        assert 50_000_000 < size <= 64 << 20
        await site.tail(1, "job-1-a1-r0", follow=False)
        chunks = await site.chunks(1)
        assert chunks[0].offset == 100_000_008 - size
        assert chunks[-2].data.endswith(b"the end\n")

    stage.play(script)
