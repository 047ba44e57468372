"""What a machine that joined runs: its agent, and its Ray, both kept alive and told by what the head answers.

The head is asked once a second. While it is away everything goes on; when its Ray is another one than before, ours is
started anew to match, and agent and steps do not notice.

Never: speaks HTTP; how the head is asked comes in as an argument.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import logging
import platform
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mycelium.base import files
from mycelium.base.errors import Problem, Unavailable
from mycelium.base.home import Home
from mycelium.base.ids import NodeId
from mycelium.carry import wire
from mycelium.carry.keeper import PorterKeeper
from mycelium.engine.local import door
from mycelium.engine.local.keeper import Keeper
from mycelium.engine.ray.raylet import Raylet, RayletPlace, Tls, keep_token

ASK_S = 1.0
ANSWER_S = 4.0
APART_S = 5.0  # the head answers us, but Ray does not bring us together: ours is started anew
SETTLE_S_MIN, SETTLE_S_MAX = 20.0, 160.0  # after a start, before Ray is doubted: longer after each start in vain
STOP_WAIT_S = 10.0
RESTART_S = 3.0  # between two starts of Ray: one that cannot start must not keep the machine busy

Answer = dict[str, Any]
log = logging.getLogger(__name__)


def versions() -> dict[str, str]:
    """What must be equal on all machines. Ray's own demand on Python's patch level is lifted: see `raylet`."""
    return {
        "ray": importlib.metadata.version("ray"),
        "python": ".".join(platform.python_version_tuple()[:2]),
    }


def socket_path(home: Path) -> Path:
    """Where the agent of this machine finds its relay."""
    return door.place(home)


class Host:
    """`words`: the options of the agent that do not depend on the node's id."""

    def __init__(self, home: Path, address: str, words: Sequence[str], cpus: int, gpus: int, tls: Tls | None) -> None:
        self._home = home
        self._address = address
        self._words = words
        self._cpus, self._gpus, self._tls = cpus, gpus, tls
        self._keeper: Keeper | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._porter = PorterKeeper(home, address, copies=True, site=tls and tls.site)
        self._carrying: asyncio.Task[None] | None = None
        self._raylet: Raylet | None = None
        self._life = ""
        self._not_before = 0.0
        self._started = time.monotonic()
        self._apart_since = 0.0
        self._settle_s = SETTLE_S_MIN

    async def run(self, ask: Callable[[], Answer], heard: Callable[[Answer | None], None]) -> None:
        """Until cancelled, or until the site does not want this machine any more, which is its error.

        `heard` is told every answer; None while the head is away.
        """
        while True:
            try:
                answer = await asyncio.wait_for(asyncio.to_thread(ask), ANSWER_S)
            except (Unavailable, TimeoutError):
                self._apart_since = 0.0
                heard(None)
            else:
                heard(answer)
                if answer["engine"] is not None:
                    await self._follow(answer["node"], answer["engine"])
            await asyncio.sleep(ASK_S)

    async def _follow(self, node: NodeId, engine: Answer) -> None:
        self._follow_porter(engine)
        if self._keeper is None:
            words = ["--home", str(self._home), "--node", node, "--socket", str(socket_path(self._home)), *self._words]
            words += ["--way", str(Home(self._home).way), "--porter", self._porter.address]
            self._keeper = Keeper(self._home, node, words)
            self._keeping = asyncio.create_task(self._keeper.keep())
        if not engine["ray"]:
            return  # the head builds its Ray anew just now
        raylet = self._raylet or self._find(engine)
        if raylet.living() is None or self._life != engine["life"] or self._apart(engine):
            if time.monotonic() < self._not_before:
                return
            self._not_before = time.monotonic() + RESTART_S
            raylet = Raylet(self._place(engine))
            log.info("Ray starts here, for the head's at %s", engine["ray"])
            keep_token(raylet.directory, engine["token"])
            await asyncio.to_thread(raylet.start)
            files.write(raylet.files.life, engine["life"])
            self._life = engine["life"]
            self._started, self._apart_since = time.monotonic(), 0.0
        self._raylet = raylet

    def _apart(self, engine: Answer) -> bool:
        """Whether Ray, which gives up a machine that was cut off for long, has not taken us back."""
        now = time.monotonic()
        if engine["connected"]:
            self._settle_s = SETTLE_S_MIN
        if engine["connected"] or now < self._started + self._settle_s:
            self._apart_since = 0.0
            return False
        self._apart_since = self._apart_since or now
        apart = now - self._apart_since > APART_S
        if apart:
            self._settle_s = min(SETTLE_S_MAX, self._settle_s * 2)
        return apart

    def _follow_porter(self, engine: Answer) -> None:
        """Our agent fetches from where the head is now; our own porter has the site's key from the start."""
        ca = str(self._tls.ca) if self._tls else ""
        wire.keep_way(Home(self._home).way, wire.Way(engine["porter_key"], engine["porter"], ca))
        if self._carrying is None:
            self._carrying = asyncio.create_task(self._porter.keep(engine["porter_key"]))

    def _find(self, engine: Answer) -> Raylet:
        """Ray as an earlier `myc join` may have left it."""
        raylet = Raylet(self._place(engine))
        with contextlib.suppress(OSError):
            self._life = raylet.files.life.read_text()
        return raylet

    def _place(self, engine: Answer) -> RayletPlace:
        return RayletPlace(
            Home(self._home).ray.path,
            engine["machine"],
            self._address,
            head=engine["ray"],
            cpus=self._cpus,
            gpus=self._gpus,
            tls=self._tls,
        )

    async def stop(self) -> None:
        """End the agent and Ray. Steps that still run go on under their shims."""
        if self._keeping is not None and self._keeper is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
            agent = self._keeper.living()
            if agent is not None:
                agent.signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._keeper.wait_ended(), STOP_WAIT_S)
            await asyncio.to_thread(self._keeper.kill)
        if self._carrying is not None:
            self._carrying.cancel()
            await asyncio.gather(self._carrying, return_exceptions=True)
        if self._raylet is not None:
            with contextlib.suppress(Problem):
                await asyncio.to_thread(self._raylet.kill)
