"""The head in the simulator: the real core with a pretend loop, that can die at any moment.

A turn is committed at once and takes effect (answers, orders) when its commit has taken its time: a head that dies in
between has made durable what nobody was told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from mycelium.base.domain import Asked
from mycelium.base.errors import Problem, Unavailable
from mycelium.base.ids import NodeId
from mycelium.base.limits import BATCH_COMMANDS_MAX
from mycelium.base.subject import SITE, Subject
from mycelium.engine.orders import Order
from mycelium.head.codec import Codec
from mycelium.head.core import Answer, Core, HeadSettings, Tick, Turn
from mycelium.head.domains import mounted
from mycelium.inference.plan import Pace
from mycelium.jobs.domain import Retention
from mycelium.log import ArchivedJob, Log, Snapshot
from mycelium.nodes.plan import Patience
from mycelium.sim.promises import REPLAY, Promises, difference
from mycelium.sim.timeline import MS_NS, S_NS, Timeline
from mycelium.sim.trace import Say, Violation
from mycelium.sim.world import SimWorld

TICK_NS = S_NS // 4
Reply = Callable[[Answer | None], None]  # None: the head went away before it answered


class Died(Exception):
    """The head died in the middle of a commit."""


class Disk:
    """The log, with a fate for the next commit. Everything else goes straight to it."""

    def __init__(self, log: Log, promises: Promises) -> None:
        self._log = log
        self._promises = promises
        self._codec = Codec(mounted())
        self.fate = ""

    def append(
        self,
        time_ns: int,
        events: Sequence[tuple[str, bytes]],
        archive: Sequence[ArchivedJob] = (),
        about: Sequence[Sequence[str]] = (),
    ) -> int:
        fate, self.fate = self.fate, ""
        if fate == "fails":
            raise Unavailable("the log cannot be written: no space left on device")
        if fate == "before":
            raise Died(fate)
        seq = self._log.append(time_ns, events, archive, about)
        self._promises.committed([self._codec.decode(kind, data) for kind, data in events], time_ns)
        if fate == "after":
            raise Died(fate)
        return seq

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


class SimHead:
    def __init__(
        self,
        world: SimWorld,
        timeline: Timeline,
        disk: Disk,
        say: Say,
        send: Callable[[NodeId, Order], None],
        gone: Callable[[], None],
    ) -> None:
        self.world = world
        self.timeline = timeline
        self.disk = disk
        self.say = say
        self.send = send
        self.gone = gone  # called when the head dies: whoever was connected notices
        patience = Patience(lost_ns=world.lost_s * S_NS)
        pace = Pace(world.models.down_s * S_NS, world.models.zero_s * S_NS)
        chosen = (patience, Retention(world.retain_s * S_NS), pace)
        self.settings = HeadSettings(chosen, snapshot_events=world.snapshot_events)
        self.core: Core | None = None
        self.perfect = False  # faults have ended
        self.slow_until_ns = 0
        self.wall_off_ns = 0  # how wrong the machine's clock is
        self.turns = 0
        self.lives = 0
        self._offset_ns = 0
        self._busy = False
        self._saving = False  # a snapshot is on its way to the disk
        self._inbox: deque[tuple[Asked, Reply | None]] = deque()
        self._knew = b""  # what the head knew when it died
        self._told: list[tuple[Asked, Reply | None]] = []  # who waits for the commit that is on its way

    # Life and death.

    def begin(self) -> None:
        if self.core is not None:
            return
        self.lives += 1
        wall_ns = self.timeline.now_ns + self.wall_off_ns
        self._offset_ns = max(wall_ns, self.disk.last_time_ns) - self.timeline.now_ns
        self._inbox.clear()
        self._busy = self._saving = False
        self.core = Core(self.disk, self.now_ns, self.settings)  # pyright: ignore[reportArgumentType]
        self._compare(self.core)
        self.say("head", f"begins its life {self.lives} at event {self.disk.last_seq}")
        self._tick(self.lives)

    def _compare(self, core: Core) -> None:
        """What a head finds in the log is what the one before it knew."""
        living, self._knew = self._knew, b""
        found = core.codec.encode_state(core.site)
        if living and found != living:
            raise Violation(REPLAY, difference(found, living))

    def die(self, why: str, *, void: bool = False) -> None:
        """End now; it is started again after a while, as a service manager would.

        `void`: what it had in memory never became durable.
        """
        if self.core is None:
            return
        self.say("head", f"dies: {why}")
        self._knew = b"" if void else self.core.codec.encode_state(self.core.site)
        self.core = None
        waiting = [reply for _, reply in (*self._told, *self._inbox) if reply is not None]
        self._told = []
        self._inbox.clear()
        self.gone()
        for reply in waiting:
            reply(None)
        down_ns = self.timeline.drawn_ns(max(1, self.world.faults.head_down_ms) * MS_NS)
        self.timeline.after(down_ns, self.begin)

    @property
    def now_ns(self) -> int:
        return self.timeline.now_ns + self._offset_ns

    # The loop.

    def ask(self, command: Any, reply: Reply | None, subject: Subject = SITE) -> bool:
        """Put a command into the inbox; False when no head is there. What machines report is the site's own."""
        if self.core is None:
            return False
        self._inbox.append((Asked(subject, command), reply))
        if not self._busy:
            self._busy = True
            self.timeline.after(1, lambda life=self.lives: self._turn(life))
        return True

    def _tick(self, life: int) -> None:
        if self.lives != life or self.core is None:
            return
        if not self._busy:
            self.ask(Tick(), None)
        self.timeline.after(TICK_NS, lambda: self._tick(life))

    def _turn(self, life: int) -> None:
        if self.lives != life or self.core is None:
            return
        self._told = [self._inbox.popleft() for _ in range(min(len(self._inbox), BATCH_COMMANDS_MAX))]
        self.turns += 1
        self.disk.fate = self._fate()
        try:
            turn = self.core.turn([asked for asked, _ in self._told], self.now_ns)
            if self.core.snapshot_due() and not self._saving:
                self._saving = True
                self._save(self.core.take_snapshot(), life)
        except Died as moment:
            self.die(f"{moment} its events were durable", void=str(moment) == "before")
            return
        except Unavailable as problem:
            self.die(problem.message, void=True)
            return
        self.timeline.after(self._commit_ns(turn), lambda: self._tell(life, turn))

    def _save(self, snapshot: Snapshot, life: int) -> None:
        """Written by another thread meanwhile, so events go on behind it; it may never arrive."""

        def saved() -> None:
            if self.lives == life and self.core is not None:
                self._saving = False
                self.disk.save_snapshot(snapshot.seq, snapshot.version, snapshot.data)

        self.timeline.after(self.timeline.drawn_ns(50 * MS_NS), saved)

    def _fate(self) -> str:
        faults, timeline = self.world.faults, self.timeline
        if self.perfect:
            return ""
        if timeline.happens(faults.commit_dies_permille):
            return timeline.random.choice(("before", "after"))
        return "fails" if timeline.happens(faults.append_fails_permille) else ""

    def _commit_ns(self, turn: Turn) -> int:
        if not turn.events:
            return 50_000
        if self.timeline.now_ns < self.slow_until_ns and not self.perfect:
            return self.timeline.drawn_ns(self.world.faults.slow_commit_ms * MS_NS)
        return self.world.commit_us * 1000 // 2 + self.timeline.random.randrange(self.world.commit_us * 1000)

    def _tell(self, life: int, turn: Turn) -> None:
        if self.lives != life or self.core is None:
            return
        told, self._told = self._told, []
        for (asked, reply), answer in zip(told, turn.answers, strict=True):
            if reply is not None:
                reply(answer)
            elif isinstance(answer.problem, Problem):
                self.say("head", f"{type(asked.command).__name__} was not taken: {answer.problem}")
        for node, order in turn.orders:
            self.send(node, order)
        self._busy = bool(self._inbox)
        if self._inbox:
            self._turn(life)
