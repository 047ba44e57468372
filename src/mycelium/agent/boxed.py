"""Runs a compiled program on this machine within bounds, in the sandbox where its author is not trusted.

It is a step as on a site's node, in a directory of its own that is gone afterwards: kept by the same shim, with the
same walls, the same watch over memory and time and the same driver. Ctrl-C, and the death of this process, end it all.
Never: gives a program more than it would have on a site, or reads a pickle that it wrote.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mycelium.agent import probes
from mycelium.agent.shim import record, shim
from mycelium.agent.steps import prepare
from mycelium.agent.steps.tail import read_at
from mycelium.base.errors import Denied, Exhausted, Unavailable
from mycelium.base.ids import StepId
from mycelium.base.limits import CONTAINER_BYTES_MAX
from mycelium.base.units import format_size, format_time_ms
from mycelium.engine import step_files
from mycelium.engine.orders import Sandbox, Step
from mycelium.jobs.program import INPUT_FILE, NAME, PROGRAM_FILE, RESULT_FILE
from mycelium.nodes.model import Devices
from mycelium.programs.report import VERBOSE
from mycelium.sandbox import etc, linux, uids
from mycelium.sandbox.probe import SandboxOffer, probe

STEP, ETC, EMPTY = "step", "etc", "empty"  # what the directory of a run holds
LOOK_S = 0.05


class Bounds(NamedTuple):
    memory_bytes: int
    time_ms: int


def run(program: bytes, inputs: bytes, bounds: Bounds, listener: Any, *, boxed: bool, verbose: bool) -> Any:
    """The program's result. `listener` is written what it says on the way, and knows how it failed.

    Errors: the program's own; `Exhausted` beyond a bound; `Denied` where there is no sandbox.
    """
    place = Path(tempfile.mkdtemp(prefix="myc-run-"))
    try:
        (place / EMPTY).mkdir(mode=0o755)
        work = place / STEP / step_files.WORK
        work.mkdir(mode=0o700, parents=True)
        for name, data in ((PROGRAM_FILE, program), (INPUT_FILE, inputs)):
            (work / name).write_bytes(data)
        step = _step(bounds, boxed=boxed, verbose=verbose)
        words = [sys.executable, "-P", "-m", "mycelium.agent.boxed", str(place), msgspec.json.encode(step).decode()]
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, process_group=0) as keeper:
            try:
                _follow(keeper, place / STEP, listener)
            except BaseException:
                keeper.terminate()
                keeper.wait()
                raise
            said = keeper.stderr.read().decode(errors="replace") if keeper.stderr else ""
        return _result(place / STEP, bounds, listener, said)
    finally:
        prepare.remove(place)


def _step(bounds: Bounds, *, boxed: bool, verbose: bool) -> Step:
    cpus = len(probes.cores())
    env = {"MYC_CPUS": str(cpus), "MYC_MEMORY_BYTES": str(bounds.memory_bytes), **({VERBOSE: "1"} if verbose else {})}
    return Step(
        id=StepId(f"run-{os.getpid()}"),
        command=(NAME,),
        devices=Devices(cpu_m=1000 * cpus, memory_bytes=bounds.memory_bytes),
        time_ms=bounds.time_ms,
        grace_ms=0,
        sandbox=Sandbox.PROCESS if boxed else Sandbox.NONE,
        env=env,
    )


def _follow(keeper: subprocess.Popen[bytes], step: Path, listener: Any) -> None:
    """What the program says, while it says it, until its end."""
    offsets = {"stderr": 0, "stdout": 0}
    while True:
        over = keeper.poll() is not None  # asked before reading: what is found empty after the end stays empty
        for stream in offsets:
            while (found := read_at(str(step), stream, offsets[stream]))[1]:
                offsets[stream] = found[0] + len(found[1])
                (listener if stream == "stderr" else sys.stderr.buffer).write(found[1])
        listener.flush()
        if over:
            return
        time.sleep(LOOK_S)


def _result(step: Path, bounds: Bounds, listener: Any, said: str) -> Any:
    from mycelium.polymer.container import values
    from mycelium.programs.report import raised

    status = step_files.read_json(str(step / step_files.STATUS))
    if status is None:
        raise Unavailable(f"the program could not be started: {said.strip()[-500:] or 'its keeper was ended'}")
    reason, message = status["reason"], status["message"]
    if reason == "exit" and status["exit_code"] == 0:
        file = step / step_files.WORK / RESULT_FILE
        if file.is_symlink() or not file.is_file() or file.stat().st_size > CONTAINER_BYTES_MAX:
            raise Unavailable("the program ended and left no result")
        return values.read(file.read_bytes())
    if reason == "no-sandbox":
        raise Denied(f"the program's author is not trusted, and there is no sandbox: {message}", hint=status["hint"])
    if reason == "time":
        most = format_time_ms(bounds.time_ms)
        raise Exhausted(f"the program ran longer than {most}", hint="allow it more with --time")
    if reason == "memory":
        raise Exhausted(f"the program {message}", hint=f"it may use {format_size(bounds.memory_bytes)}; see --memory")
    if listener.failure is not None:
        raise raised(listener.failure)
    raise Unavailable(f"the program ended with {status['exit_code']}: {message or reason}")


def main() -> int:
    """The keeper: finds the walls, then is the step's shim."""
    place, step = Path(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=Step)
    caller = os.getppid()
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGTERM)
    directory = place / STEP
    boxed = step.sandbox is Sandbox.PROCESS
    offer = _offer(place) if boxed else SandboxOffer()
    if boxed and not offer.bwrap:
        hint = "install bubblewrap, or say --trust if you know who wrote it"
        status = {"reason": "no-sandbox", "exit_code": 127, "message": offer.why_not, "hint": hint}
        record.reserve_status(str(directory))
        record.write_status(str(directory), status)
        return 0
    uid, _held = uids.lease() if boxed and os.geteuid() == 0 else (None, -1)
    if uid is not None:
        for path in (directory / step_files.WORK, *(directory / step_files.WORK).iterdir()):
            os.chown(path, uid, uid)
    group = f"mycelium-{step.id}"
    spec = prepare.build_spec(
        step, offer, uid=uid, cores=probes.cores(), gpus=None, etc=place / ETC, hostname="here", group=group
    )
    prepare.write_spec(spec, directory)
    shim.main(str(directory))
    if os.getppid() != caller:
        prepare.remove(place)  # nobody else is left to do it
    return 0


def _offer(place: Path) -> SandboxOffer:
    etc.make(place / ETC)
    return probe(place / ETC, place / EMPTY, probes.python_prefixes())


if __name__ == "__main__":
    sys.exit(main())
