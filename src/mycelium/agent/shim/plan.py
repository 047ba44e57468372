"""From a step's spec to what is started: environment, limits and sandbox. Pure but for two looks at the machine.

Standard library, msgspec and rules only: the shim uses it.
"""


# Paths are strings here, because this runs at the start of every step.
# ruff: noqa: PTH103, PTH118

from __future__ import annotations

import os
from collections.abc import Callable

from mycelium.agent.shim import names
from mycelium.base.limits import SHM_BYTES_MAX, STEP_PROCESSES_MAX, TMP_BYTES_MAX
from mycelium.engine.spec import Spec
from mycelium.engine.step_files import WORK
from mycelium.sandbox import usage
from mycelium.sandbox.box import WORK as WORK_INSIDE
from mycelium.sandbox.box import Box
from mycelium.sandbox.rlimits import Rlimits
from mycelium.sandbox.spawn import Payload


def environment(spec: Spec, home: str, tmp: str) -> dict[str, str]:
    """All that a payload inherits; the step's own variables win."""
    fixed = {"PATH": spec.path, "HOME": home, "TMPDIR": tmp, "LANG": "C.UTF-8"}
    if spec.gpus is not None:
        shown = ",".join(str(gpu) for gpu in spec.gpus)
        fixed |= {"CUDA_VISIBLE_DEVICES": shown, "NVIDIA_VISIBLE_DEVICES": shown or "void"}
    if spec.pool and not spec.boxed and not spec.gpus:
        # What it offers is power over the whole engine: it never enters a sandbox. Nor does it know of leased gpus.
        fixed["MYC_POOL"] = spec.pool
    return fixed | spec.step.env


def payload_of(spec: Spec, directory: str, join: Callable[[], None] | None) -> Payload:
    step = spec.step
    memory_bytes = step.devices.memory_bytes
    command = names.resolve(step.command)
    work = os.path.join(directory, WORK)
    processes = STEP_PROCESSES_MAX
    if spec.uid is None:
        # The kernel counts all processes of this user, not the step's alone.
        processes += len(usage.pids())
    limits = Rlimits(memory_bytes, spec.disk_bytes, processes)
    if not spec.boxed:
        tmp = os.path.join(directory, "tmp")
        os.makedirs(tmp, exist_ok=True)
        return Payload(command, work, environment(spec, work, tmp), limits, cores=spec.cores, join=join)
    box = Box(
        work=work,
        etc=spec.etc,
        env=environment(spec, WORK_INSIDE, "/tmp"),
        prefixes=spec.prefixes,
        hidden=spec.hidden,
        net=step.net,
        tmp_bytes=min(TMP_BYTES_MAX, memory_bytes),
        shm_bytes=min(SHM_BYTES_MAX, memory_bytes),
        hostname=spec.hostname,
        gpus=spec.gpus or (),
    )
    return Payload(command, work, {}, limits, box=box, bwrap=spec.bwrap, uid=spec.uid, cores=spec.cores, join=join)
