"""The service job that a replica is: its command, and what it needs.

Whatever runs it listens on a Unix socket in the step's own directory. The step then needs no network at all, no port
can collide, and nobody but the node's agent, the head and its gateways can reach it past the keys and limits.
Never: looks at the site.
"""

from __future__ import annotations

import shlex

from mycelium.base.limits import TIME_MS_MAX
from mycelium.base.units import GIB
from mycelium.inference.model import Backend, ModelKind, Serving
from mycelium.jobs.model import Request
from mycelium.nodes.model import Devices

SOCKET = "replica.sock"  # in the step's working directory
WEIGHTS = "model.gguf"
PROGRAM = "replica.py"
EXTRA_PLACES = 1  # of the backend beyond `parallel`: batches never take it, so that a person need not wait for a line


def places(serving: Serving) -> int:
    return serving.parallel + EXTRA_PLACES


def command(name: str, serving: Serving) -> tuple[str, ...]:
    """What the step runs."""
    if serving.backend is Backend.VLLM:
        words = ["vllm", "serve", WEIGHTS, "--uds", SOCKET, "--served-model-name", name]
        words += ["--max-model-len", str(serving.context), "--max-num-seqs", str(places(serving))]
        if serving.needs.gpus > 1:
            words += ["--tensor-parallel-size", str(serving.needs.gpus)]
        return tuple(words)
    words = ["python3", PROGRAM, WEIGHTS, SOCKET, "--name", name, "--context", str(serving.context)]
    words += ["--parallel", str(places(serving))]
    if serving.kind is ModelKind.EMBEDDING:
        words += ["--embedding"]
    if serving.needs.gpus:
        words += ["--gpu"]
    return tuple(words)


def request(name: str, serving: Serving) -> Request:
    """The request of one replica."""
    return Request(
        command=command(name, serving),
        name=f"serve {name}"[:128],
        needs=serving.needs,
        time_ms=TIME_MS_MAX,
        on=(*serving.on, serving.backend.value),  # nodes have a label of each backend that they can run
        workdir=serving.workdir,
        service=True,
    )


def needs(cpu_m: int, memory_bytes: int, gpus: int, size_bytes: int) -> Devices:
    """The devices of a replica; memory, unless it was said, is twice the weights and 1 GiB for context and code."""
    return Devices(cpu_m, memory_bytes or 2 * size_bytes + GIB, gpus)


def shown(name: str, serving: Serving) -> str:
    return shlex.join(command(name, serving))
