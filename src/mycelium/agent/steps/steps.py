"""All steps of one node, and the life of each: prepared, started under its shim, minded, collected, forgotten.

Every order may come twice, and every life of an agent begins by adopting what an earlier one left. What happens to a
step is told once, through `tell`; beats say it again.
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
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from mycelium.agent.ports import Ports
from mycelium.agent.settings import AgentSettings
from mycelium.agent.share import Share
from mycelium.agent.shim import record
from mycelium.agent.steps import finish, prepare
from mycelium.agent.steps.collect import collect
from mycelium.agent.steps.held import HeldStep, Phase
from mycelium.agent.steps.launcher import Launcher
from mycelium.base import files
from mycelium.base.errors import Problem
from mycelium.base.ids import StepId, split_step
from mycelium.base.limits import DISK_RESERVE_BYTES
from mycelium.engine import step_files
from mycelium.engine.orders import Ended, Exited, Reason, Report, Sandbox, Started, Step
from mycelium.engine.spec import Spec, read
from mycelium.sandbox import process, uids
from mycelium.sandbox.probe import SandboxOffer
from mycelium.store.disk import check_room
from mycelium.store.objects import Objects

FORGOTTEN_KEPT = 10_000  # names of forgotten steps, against an order to start that comes late
PREPARE_AT_ONCE = 8
FORGET_WAIT_S = 10.0  # how long a follower may take to read the last of a log

log = logging.getLogger(__name__)


class Steps:
    """`etc`: what sandboxes show as /etc. `life_fd`: see `Launcher`. `spawn` begins a task that ends with the agent."""

    def __init__(
        self,
        settings: AgentSettings,
        offer: SandboxOffer,
        etc: Path,
        objects: Objects,
        life_fd: int,
        tell: Callable[[Report], object],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self.held: dict[StepId, HeldStep] = {}
        self.ports = Ports(settings.files.ports)
        self._settings = settings
        self._offer = offer
        self._etc = etc
        self._objects = objects
        self._tell = tell
        self._spawn = spawn
        self._share = Share(settings.cores, settings.gpus)
        self._launcher = Launcher(life_fd)
        self._forgotten: OrderedDict[StepId, None] = OrderedDict()
        self._preparing = asyncio.Semaphore(PREPARE_AT_ONCE)
        # Several sites may share the machine's control groups.
        self._site = hashlib.sha256(os.fsencode(settings.home)).hexdigest()[:8]

    def open(self) -> None:
        """Take over the steps of an earlier life, and be ready for more."""
        self._launcher.open()
        self._adopt_all()
        self.ports.open({held.step.port for held in self.held.values()})

    def close(self) -> None:
        """Let go of them: they go on under their shims."""
        self._launcher.close()

    # -- orders -------------------------------------------------------------------------------------------------------

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
        held = HeldStep(step, self._settings.steps / step.id)
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

    async def stop_all(self, grace_ms: int) -> None:
        """Waits until all have ended."""
        for held in list(self.held.values()):
            self.stop(held.step.id, grace_ms)
        await asyncio.gather(*(held.over.wait() for held in self.held.values()))

    def forget(self, step_id: StepId) -> None:
        held = self.held.get(step_id)
        if held is None or held.phase is not Phase.GONE:
            return  # only an end that the head has heard of can be forgotten
        del self.held[step_id]
        self._forgotten[step_id] = None
        if len(self._forgotten) > FORGOTTEN_KEPT:
            self._forgotten.popitem(last=False)
        self._spawn(self._remove(held))

    async def _remove(self, held: HeldStep) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(held.read.wait(), FORGET_WAIT_S)
        try:
            await asyncio.to_thread(prepare.remove, held.directory)
        except OSError as error:
            log.error("%s not removed: %s", held.directory, error)

    # -- from the order to the shim -----------------------------------------------------------------------------------

    async def _begin(self, held: HeldStep) -> None:
        """Prepare and launch. Whatever goes wrong, the step ends with a reason."""
        lease_fd = -1
        try:
            prepare.check_sandbox(held.step, self._offer.bwrap, self._offer.why_not)
            check_room(self._settings.directory, DISK_RESERVE_BYTES)
            uid = None
            if held.step.sandbox is Sandbox.PROCESS and os.geteuid() == 0:
                uid, lease_fd = uids.lease()
            async with self._preparing:
                await self._fill(held, uid)
                if held.stop_grace_ms is not None:
                    self._end(held, _not_started(Reason.STOPPED, "stopped before it began"))
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

    async def _fill(self, held: HeldStep, uid: int | None) -> None:
        step = held.step
        if step.workdir is None and not step.inputs:
            prepare.fill(step, held.directory, self._objects, uid)
        else:
            await asyncio.to_thread(prepare.fill, step, held.directory, self._objects, uid)

    def _spec(self, step: Step, uid: int | None) -> Spec:
        settings = self._settings
        cores, gpus = self._share.take(step.devices)
        return prepare.build_spec(
            step,
            self._offer,
            uid=uid,
            cores=cores,
            gpus=gpus if settings.gpus else None,
            etc=self._etc,
            hostname=settings.name,
            group=f"mycelium-{self._site}-{settings.node}-{step.id}",
            hidden=(str(settings.home),),
            pool=str(settings.pool) if settings.pool.exists() else "",
        )

    async def _launch(self, held: HeldStep, lease_fd: int) -> None:
        self.ports.lend(held.step.port)
        held.ready_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            pid = await self._launcher.launch(held.directory, write_fd, *([lease_fd] if lease_fd >= 0 else []))
        finally:
            os.close(write_fd)
        asyncio.get_running_loop().add_reader(held.ready_fd, self._payload_runs, held)
        self._mind(held, pid)
        if held.stop_grace_ms is not None:
            self._signal_stop(held, held.stop_grace_ms)

    def _fail_start(self, held: HeldStep, message: str) -> None:
        """The step ends here, unless a shim has it: a fork server may die after it has forked, before it says so."""
        shim = None
        with contextlib.suppress(OSError):  # there is not even a directory, or it is full and nothing can begin in it
            shim = record.fence(held.path)
        if shim is not None:
            self._mind(held, shim.pid)
        else:
            self._end(held, _not_started(Reason.FAILED_START, message))

    # -- while it runs ------------------------------------------------------------------------------------------------

    def _mind(self, held: HeldStep, pid: int) -> None:
        """Notice the end of this shim, whoever started it."""
        held.phase = Phase.RUNNING
        try:
            held.pid_fd = os.pidfd_open(pid)
        except OSError:  # it has ended already
            self._shim_ended(held)
        else:
            asyncio.get_running_loop().add_reader(held.pid_fd, self._shim_ended, held)

    def _payload_runs(self, held: HeldStep) -> None:
        """The shim has said so, or closed its end without a word because the payload never ran."""
        if held.ready_fd < 0:
            return
        with contextlib.suppress(BlockingIOError, ValueError):
            held.started_ns = int(os.read(held.ready_fd, 32))
            self._report(held)
        asyncio.get_running_loop().remove_reader(held.ready_fd)
        os.close(held.ready_fd)
        held.ready_fd = -1

    def _signal_stop(self, held: HeldStep, grace_ms: int) -> None:
        with contextlib.suppress(OSError):  # on a full disk the shim goes by the grace that the spec gives
            files.write(str(held.directory / step_files.STOP), str(grace_ms).encode())
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(held.pid_fd, signal.SIGTERM)

    # -- its end ------------------------------------------------------------------------------------------------------

    def _shim_ended(self, held: HeldStep) -> None:
        self._payload_runs(held)
        if held.pid_fd >= 0:
            asyncio.get_running_loop().remove_reader(held.pid_fd)
        held.close()
        self._spawn(self._collect(held))

    async def _collect(self, held: HeldStep) -> None:
        """The shim is gone: read what it wrote down, and keep what the step leaves."""
        shim = process.read(str(held.directory / step_files.PID))
        if shim is None:
            self._fail_start(held, "its shim could not begin; the agent's log says why")
            return
        if shim.lives():
            self._mind(held, shim.pid)  # a fork server died as it answered: the shim that we knew came second
            return
        held.phase = Phase.COLLECTING
        self._end(held, await collect(held, self._objects))

    def _end(self, held: HeldStep, ended: Ended) -> None:
        held.phase, held.ended = Phase.GONE, ended
        self.ports.take_back(held.step.port)
        if held.spec is not None:
            self._share.give_back(held.step.devices, held.spec.cores, held.spec.gpus or ())
        # Kept in memory in any case; without the file, another life of the agent collects once more.
        with contextlib.suppress(OSError):
            if held.directory.is_dir():
                finish.write_ended(ended, held.directory)
        self._report(held)
        held.over.set()

    # -- adoption -----------------------------------------------------------------------------------------------------

    def _adopt_all(self) -> None:
        self._settings.steps.mkdir(parents=True, exist_ok=True)
        for step_id in prepare.sweep(self._settings.steps):
            directory = self._settings.steps / step_id
            spec = read(str(directory))
            shim = record.fence(str(directory)) if spec is not None else None
            if spec is None or shim is None:
                # Never begun: the head does not find it in our beats, and orders it again.
                prepare.remove(directory)
            else:
                self._adopt(HeldStep(spec.step, directory), spec, shim)
        # Sandboxes that an earlier life began still show the /etc that it made.
        in_use = {str(self._etc), *(held.spec.etc for held in self.held.values() if held.spec is not None)}
        for path in self._settings.directory.glob("etc.*"):
            if str(path) not in in_use:
                prepare.remove(path)

    def _adopt(self, held: HeldStep, spec: Spec, shim: process.Process) -> None:
        held.spec = spec
        held.started_ns = shim.started_ns
        self.held[held.step.id] = held
        self._share.hold(held.step.devices, spec.cores, spec.gpus or ())
        ended = finish.read_ended(held.directory)
        if ended is not None:
            self._end(held, ended)
        elif shim.lives():
            self._mind(held, shim.pid)
        else:
            held.phase = Phase.COLLECTING
            self._spawn(self._collect(held))

    # -- reports ------------------------------------------------------------------------------------------------------

    def _report(self, held: HeldStep) -> None:
        if held.ended is not None:
            self._tell(Exited(self._settings.node, held.step.id, held.ended))
        elif held.started_ns:
            self._tell(Started(self._settings.node, held.step.id, held.started_ns))

    def _say_lost(self, step_id: StepId, message: str) -> None:
        self._tell(Exited(self._settings.node, step_id, finish.lost(0, time.time_ns(), message)))


def _not_started(reason: Reason, message: str) -> Ended:
    return Ended(reason, 127, message, started_ns=0, ended_ns=time.time_ns())
