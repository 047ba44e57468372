"""The agent of one node: orders in, reports out, and the truth about its steps on disk.

Every order may come twice, and every life of an agent begins by adopting what an earlier one left. Reports go out once
when something happens, and again in every beat.

Never: decides what runs, or believes what a payload says.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import signal
import time
from collections import OrderedDict
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec

from mycelium.agent import finish, prepare, probes, record, tail
from mycelium.agent.held import Held, Phase
from mycelium.agent.launcher import Launcher
from mycelium.agent.life import Life
from mycelium.agent.link import Link
from mycelium.agent.plan import SYSTEM_PATH
from mycelium.agent.ports import Ports
from mycelium.agent.settings import Settings
from mycelium.agent.share import Share
from mycelium.base import files
from mycelium.base.errors import Problem, Unavailable
from mycelium.base.ids import StepId, split_step
from mycelium.base.limits import BEAT_MS, DISK_RESERVE_BYTES, FOLLOWERS_MAX, STEP_DISK_BYTES
from mycelium.base.version import __version__
from mycelium.carry.carried import Carried, forget_other_boots
from mycelium.engine import step_files
from mycelium.engine.orders import (
    WIRE_VERSION,
    Beat,
    Chunk,
    Ended,
    Exited,
    Forget,
    Gone,
    Hello,
    Order,
    Reason,
    Running,
    Sandbox,
    Shutdown,
    Start,
    Started,
    Step,
    Stop,
    Tail,
    Untail,
)
from mycelium.sandbox import process, uids
from mycelium.sandbox.cgroup import Group
from mycelium.sandbox.probe import Offer
from mycelium.sandbox.strays import end_strays
from mycelium.store.directory import DirectoryObjects
from mycelium.store.disk import check_room
from mycelium.store.objects import Objects

FORGOTTEN_KEPT = 10_000  # names of forgotten steps, against an order to start that comes late
PREPARE_AT_ONCE = 8
HOSTNAME_LENGTH_MAX = 64  # Linux's own bound
DELIVER_RETRY_S = 1.0
FORGET_WAIT_S = 10.0  # how long a follower may take to read the last of a log

log = logging.getLogger(__name__)


class Agent:
    def __init__(self, settings: Settings, offer: Offer, etc: Path, link: Link) -> None:
        self.settings = settings
        self.offer = offer
        self.etc = etc
        self.link = link
        self.boot = os.urandom(8).hex()
        # On a machine of its own all objects are copies: what is not here is fetched, what is made here is delivered.
        self.local = DirectoryObjects(settings.objects, durable=settings.way is None)
        self.objects: Objects = self.local
        if settings.way is not None:
            forget_other_boots(self.local)
            self.objects = Carried(self.local, settings.way, settings.porter)
        self.share = Share(settings.cores, settings.gpus)
        # Only another machine can be in doubt about this one.
        self.life = Life(settings.files.life_port, settings.address) if settings.way is not None else None
        self.launcher = Launcher(self.life.fd if self.life is not None else -1)
        self.ports = Ports(settings.files.ports)
        self.held: dict[StepId, Held] = {}
        self.tails: dict[int, asyncio.Task[None]] = {}
        self._forgotten: OrderedDict[StepId, None] = OrderedDict()
        self._preparing = asyncio.Semaphore(PREPARE_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._beats = 0
        self._prefixes = probes.python_prefixes()
        self._path = ":".join((*(f"{prefix}/bin" for prefix in self._prefixes), *SYSTEM_PATH))
        # Several sites may share the machine's control groups.
        self._site = hashlib.sha256(os.fsencode(settings.home)).hexdigest()[:8]
        self._finished = asyncio.Event()

    async def run(self) -> None:
        """Live until a `Shutdown`, or until the site's directory is gone."""
        self.launcher.open()
        self.adopt()
        self.ports.open({held.step.port for held in self.held.values()})
        self._spawn(self.link.run(self._greet, self.handle, self._parted))
        self._spawn(self._beat_for_ever())
        if self.life is not None:
            self._spawn(self.life.answer())
        await self._finished.wait()
        await self.link.wait_sent()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.launcher.close()
        if self.life is not None:
            self.life.close()

    def finish(self) -> None:
        self._finished.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("agent ends: a task failed", exc_info=error)
            self.finish()  # the engine starts another one, which adopts the steps

    # -- what the head hears ------------------------------------------------------------------------------------------

    def _greet(self) -> None:
        settings = self.settings
        self.link.send(
            Hello(
                wire=WIRE_VERSION,
                node=settings.node,
                name=settings.name,
                boot=self.boot,
                devices=settings.devices,
                labels=settings.labels,
                address=settings.address,
                version=__version__,
                python=settings.labels.get("python", ""),
                ports=self.ports.numbers,
                life_port=self.life.port if self.life is not None else 0,
            )
        )
        self.beat()

    def beat(self) -> None:
        self._beats += 1
        running = tuple(Running(held.step.id, held.started_ns) for held in self.held.values() if held.ended is None)
        gone = tuple(Gone(held.step.id, held.ended) for held in self.held.values() if held.ended is not None)
        about = os.statvfs(self.settings.directory)
        self.link.send(
            Beat(
                node=self.settings.node,
                boot=self.boot,
                number=self._beats,
                running=running,
                gone=gone,
                disk_free_bytes=about.f_bavail * about.f_frsize,
                load=os.getloadavg()[0],
                memory_used_bytes=probes.memory_used_bytes(),
            )
        )

    async def _beat_for_ever(self) -> None:
        while True:
            await asyncio.sleep(BEAT_MS / 1000)
            if not self.settings.directory.is_dir():
                log.error("agent ends: %s is gone", self.settings.directory)
                self.finish()
                return
            self.ports.hold()
            self.beat()

    def _parted(self) -> None:
        """Chunks are for the connection that asked for them."""
        for task in self.tails.values():
            task.cancel()
        self.tails.clear()

    # -- orders -------------------------------------------------------------------------------------------------------

    async def handle(self, order: Order) -> None:
        match order:
            case Start(step):
                self.start(step)
            case Stop(step_id, grace_ms):
                self.stop(step_id, grace_ms)
            case Forget(step_id):
                self.forget(step_id)
            case Tail():
                self.tail(order)
            case Untail(number):
                if number in self.tails:
                    self.tails.pop(number).cancel()
            case Shutdown(stop_steps, grace_ms):
                self._spawn(self._shut_down(stop_steps=stop_steps, grace_ms=grace_ms))

    def start(self, step: Step) -> None:
        held = self.held.get(step.id)
        if held is not None:
            self._report(held)
            return
        if step.id in self._forgotten:
            self._say_lost(step.id, "this step has ended and been forgotten")
            return
        try:
            split_step(step.id)  # its name becomes a path
        except Problem as error:
            log.error("start refused: %s", error)
            return
        held = Held(step, self.settings.steps / step.id)
        self.held[step.id] = held
        self._spawn(self._begin(held))

    def stop(self, step_id: StepId, grace_ms: int) -> None:
        held = self.held.get(step_id)
        if held is None:
            self._say_lost(step_id, "this node does not know the step")
        elif held.ended is not None:
            self._report(held)
        elif held.phase is Phase.PREPARING:
            held.stop_grace_ms = grace_ms
        elif held.phase is Phase.RUNNING:
            self._signal_stop(held, grace_ms)

    def forget(self, step_id: StepId) -> None:
        held = self.held.get(step_id)
        if held is None or held.phase is not Phase.GONE:
            return  # only an end that the head has heard of can be forgotten
        del self.held[step_id]
        self._forgotten[step_id] = None
        if len(self._forgotten) > FORGOTTEN_KEPT:
            self._forgotten.popitem(last=False)
        self._spawn(self._remove(held))

    def tail(self, order: Tail) -> None:
        held = self.held.get(order.step)
        if held is None or len(self.tails) >= FOLLOWERS_MAX or order.tail in self.tails:
            self.link.send(Chunk(order.tail, order.offset, b"", end=True))
            return
        self.tails[order.tail] = self._spawn(self._follow(order, held))

    async def _follow(self, order: Tail, held: Held) -> None:
        held.begin_tail()
        try:
            await tail.send(order, held, self.link.wait_send)
        except Unavailable:
            pass
        finally:
            held.end_tail()
            if self.tails.get(order.tail) is asyncio.current_task():
                del self.tails[order.tail]

    async def _shut_down(self, *, stop_steps: bool, grace_ms: int) -> None:
        if stop_steps:
            for held in list(self.held.values()):
                self.stop(held.step.id, grace_ms)
            await asyncio.gather(*(held.over.wait() for held in self.held.values()))
        self.finish()

    # -- a step's life ------------------------------------------------------------------------------------------------

    async def _begin(self, held: Held) -> None:
        """Prepare and launch. Whatever goes wrong, the step ends with a reason."""
        lease_fd = -1
        try:
            prepare.check_sandbox(held.step, self.offer.bwrap, self.offer.why_not)
            check_room(self.settings.directory, DISK_RESERVE_BYTES)
            uid = None
            if held.step.sandbox is Sandbox.PROCESS and os.geteuid() == 0:
                uid, lease_fd = uids.lease()
            async with self._preparing:
                await self._fill(held, uid)
                if held.stop_grace_ms is not None:
                    self._end(held, self._not_started(Reason.STOPPED, "stopped before it began"))
                    return
                held.spec = self._spec(held.step, uid)
                prepare.write_spec(held.spec, held.directory)
                await self._launch(held, lease_fd)
        except Problem as error:
            hint = f" ({error.hint})" if error.hint else ""
            self._fail_start(held, f"{error.message}{hint}")
        except Exception as error:  # the top of this step's task: a strange step must not take the agent along
            log.exception("%s could not be prepared", held.step.id)
            self._fail_start(held, f"could not prepare the step: {error}")
        finally:
            if lease_fd >= 0:
                os.close(lease_fd)

    async def _fill(self, held: Held, uid: int | None) -> None:
        step = held.step
        if step.workdir is None and not step.inputs:
            prepare.fill(step, held.directory, self.objects, uid)
        else:
            await asyncio.to_thread(prepare.fill, step, held.directory, self.objects, uid)

    def _fail_start(self, held: Held, message: str) -> None:
        """The step ends here, unless a shim has it: a fork server may die after it has forked, before it says so."""
        shim = None
        with contextlib.suppress(OSError):  # there is not even a directory, or it is full and nothing can begin in it
            shim = record.fence(held.path)
        if shim is not None:
            self._mind(held, shim.pid)
        else:
            self._end(held, self._not_started(Reason.FAILED_START, message))

    def _not_started(self, reason: Reason, message: str) -> Ended:
        now_ns = time.time_ns()
        return Ended(reason, 127, message, started_ns=0, ended_ns=now_ns)

    def _spec(self, step: Step, uid: int | None) -> dict[str, Any]:
        cores, gpus = self.share.take(step.devices)
        group = self.offer.groups
        return {
            "step": prepare.step_to_json(step),
            "boxed": step.sandbox is Sandbox.PROCESS,
            "uid": uid,
            "cores": cores,
            "gpus": gpus if self.settings.gpus else None,
            "disk_bytes": step.disk_bytes or STEP_DISK_BYTES,
            "path": self._path,
            "prefixes": (*self._prefixes, *probes.own_sources()),
            "etc": str(self.etc),
            "hidden": [str(self.settings.home)],
            "hostname": self.settings.name[:HOSTNAME_LENGTH_MAX],
            "bwrap": self.offer.bwrap,
            "pool": str(self.settings.pool) if self.settings.pool.exists() else "",
            "cgroup": str(group / f"mycelium-{self._site}-{self.settings.node}-{step.id}") if group else None,
        }

    async def _launch(self, held: Held, lease_fd: int) -> None:
        self.ports.lend(held.step.port)
        held.ready_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            pid = await self.launcher.launch(held.directory, write_fd, *([lease_fd] if lease_fd >= 0 else []))
        finally:
            os.close(write_fd)
        asyncio.get_running_loop().add_reader(held.ready_fd, self._payload_runs, held)
        self._mind(held, pid)
        if held.stop_grace_ms is not None:
            self._signal_stop(held, held.stop_grace_ms)

    def _mind(self, held: Held, pid: int) -> None:
        """Notice the end of this shim, whoever started it."""
        held.phase = Phase.RUNNING
        try:
            held.pid_fd = os.pidfd_open(pid)
        except OSError:  # it has ended already
            self._shim_ended(held)
        else:
            asyncio.get_running_loop().add_reader(held.pid_fd, self._shim_ended, held)

    def _payload_runs(self, held: Held) -> None:
        """The shim has said so, or closed its end without a word because the payload never ran."""
        if held.ready_fd < 0:
            return
        with contextlib.suppress(BlockingIOError, ValueError):
            held.started_ns = int(os.read(held.ready_fd, 32))
            self.link.send(Started(self.settings.node, held.step.id, held.started_ns))
        asyncio.get_running_loop().remove_reader(held.ready_fd)
        os.close(held.ready_fd)
        held.ready_fd = -1

    def _signal_stop(self, held: Held, grace_ms: int) -> None:
        with contextlib.suppress(OSError):  # on a full disk the shim goes by the grace that the spec gives
            files.write(str(held.directory / step_files.STOP), str(grace_ms).encode())
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(held.pid_fd, signal.SIGTERM)

    def _shim_ended(self, held: Held) -> None:
        self._payload_runs(held)
        if held.pid_fd >= 0:
            asyncio.get_running_loop().remove_reader(held.pid_fd)
        held.close()
        self._spawn(self._collect(held))

    async def _collect(self, held: Held) -> None:
        """The shim is gone: read what it wrote down, and keep what the step leaves."""
        shim = process.read(str(held.directory / step_files.PID))
        if shim is None:
            self._fail_start(held, "its shim could not begin; the agent's log says why")
            return
        if shim.lives():
            self._mind(held, shim.pid)  # a fork server died as it answered: the shim that we knew came second
            return
        held.phase = Phase.COLLECTING
        status = step_files.read_json(str(held.directory / step_files.STATUS))
        try:
            ended = finish.from_status(status) if status is not None else await self._lose(held)
        except msgspec.ValidationError as error:
            ended = finish.lost(held.started_ns, time.time_ns(), f"its status cannot be read: {error}")
        if finish.has_leavings(held.step, ended, held.directory):
            ended = await asyncio.to_thread(
                finish.keep, held.step, ended, held.directory, self.local, held.spec.get("uid")
            )
            await self._deliver(ended)
        self._end(held, ended)

    async def _deliver(self, ended: Ended) -> None:
        """Wait until the head has what the step left: only then its end may be told, because the head commits it."""
        if not isinstance(self.objects, Carried):
            return
        trees = [ended.outputs] if ended.outputs else []
        plain = [digest for digest in (ended.stdout, ended.stderr) if digest]
        while True:
            try:
                await asyncio.to_thread(self.objects.deliver, trees, plain)
            except Unavailable as error:
                log.warning("not delivered yet: %s", error)
                await asyncio.sleep(DELIVER_RETRY_S)
            else:
                return

    async def _lose(self, held: Held) -> Ended:
        """No status: the shim was killed. Nothing of the step may be left when we say so."""
        if held.spec.get("cgroup"):
            await asyncio.to_thread(Group(Path(held.spec["cgroup"])).remove)
        elif not held.spec.get("boxed"):
            await asyncio.to_thread(end_strays, held.directory)
        return finish.lost(held.started_ns, time.time_ns(), "its shim is gone without a word")

    def _end(self, held: Held, ended: Ended) -> None:
        held.phase, held.ended = Phase.GONE, ended
        self.ports.take_back(held.step.port)
        if held.spec:
            self.share.give_back(held.step.devices, held.spec["cores"], held.spec["gpus"] or ())
        # Kept in memory in any case; without the file, another life of the agent collects once more.
        with contextlib.suppress(OSError):
            if held.directory.is_dir():
                finish.write_ended(ended, held.directory)
        self._report(held)
        held.over.set()

    async def _remove(self, held: Held) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(held.read.wait(), FORGET_WAIT_S)
        try:
            await asyncio.to_thread(prepare.remove, held.directory)
        except OSError as error:
            log.error("%s not removed: %s", held.directory, error)

    # -- adoption -----------------------------------------------------------------------------------------------------

    def adopt(self) -> None:
        """Take over the steps of an earlier life."""
        self.settings.steps.mkdir(parents=True, exist_ok=True)
        for step_id in prepare.sweep(self.settings.steps):
            directory = self.settings.steps / step_id
            found = prepare.read_step(directory)
            shim = record.fence(str(directory)) if found is not None else None
            if found is None or shim is None:
                # Never begun: the head does not find it in our beats, and orders it again.
                prepare.remove(directory)
            else:
                self._adopt(Held(found[0], directory), found[1], shim)
        # Sandboxes that an earlier life began still show the /etc that it made.
        in_use = {str(self.etc), *(held.spec["etc"] for held in self.held.values())}
        for path in self.settings.directory.glob("etc.*"):
            if str(path) not in in_use:
                prepare.remove(path)

    def _adopt(self, held: Held, spec: dict[str, Any], shim: process.Process) -> None:
        held.spec = spec
        held.started_ns = shim.started_ns
        self.held[held.step.id] = held
        self.share.hold(held.step.devices, spec["cores"], spec["gpus"] or ())
        ended = finish.read_ended(held.directory)
        if ended is not None:
            self._end(held, ended)
        elif shim.lives():
            self._mind(held, shim.pid)
        else:
            held.phase = Phase.COLLECTING
            self._spawn(self._collect(held))

    # -- reports ------------------------------------------------------------------------------------------------------

    def _report(self, held: Held) -> None:
        if held.ended is not None:
            self.link.send(Exited(self.settings.node, held.step.id, held.ended))
        elif held.started_ns:
            self.link.send(Started(self.settings.node, held.step.id, held.started_ns))

    def _say_lost(self, step_id: StepId, message: str) -> None:
        self.link.send(Exited(self.settings.node, step_id, finish.lost(0, time.time_ns(), message)))
