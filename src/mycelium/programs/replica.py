"""A replica: one model behind OpenAI's HTTP, on a Unix socket in its own directory. Runs as a step, sandboxed.

It is sent to the node beside the weights, so it imports nothing of Mycelium: the node's Python needs `xllamacpp` alone.
llama.cpp's own server answers; no token passes through Python.
Never: opens a port.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

ORPHAN_LOOK_S = 1.0


def main() -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("weights")
    parser.add_argument("socket")
    parser.add_argument("--name", required=True)
    parser.add_argument("--context", type=int, required=True, help="tokens of one request")
    parser.add_argument("--parallel", type=int, required=True, help="requests worked on at once")
    parser.add_argument("--embedding", action="store_true")
    parser.add_argument("--gpu", action="store_true")
    options = parser.parse_args()
    os.environ["GGML_NO_BACKTRACE"] = "1"  # when it fails it shall end, not look for a debugger
    try:
        llama: Any = importlib.import_module("xllamacpp")
    except ImportError:
        print("this node's Python lacks xllamacpp: install the extra 'llm'", file=sys.stderr)
        return 3
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.set())
    settings = llama.CommonParams()
    settings.model.path = options.weights
    settings.model_alias = {options.name}
    settings.hostnames = [str(Path.cwd() / options.socket)]
    settings.n_parallel = options.parallel
    settings.n_ctx = options.context * options.parallel
    settings.n_gpu_layers = 999 if options.gpu else 0
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads()
    settings.n_threads_http = options.parallel + 4  # each open answer holds one; the rest are for health checks
    settings.ui = False
    settings.fit_params = False  # the deployment says how much context there is, not what happens to be free
    settings.cache_ram_mib = 0  # a cache outside the context would be memory that nobody asked for
    settings.endpoint_slots = False
    if options.embedding:
        settings.embedding = True
        settings.n_parallel = 1 << (options.parallel - 1).bit_length()  # llama.cpp takes means of 2, 4, 8 … inputs only
        settings.kv_unified = True
        settings.n_batch = settings.n_ubatch = options.context  # an input must fit into one batch
        settings.pooling_type = llama.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = llama.Server(settings)
    print(f"{options.name} answers at {server.listening_address}", flush=True)
    while not stopped.wait(ORPHAN_LOOK_S):
        pass
    os._exit(0)  # the gateway has let it run dry: whatever still streams has had its time


def threads() -> int:
    """As many as the step was given cpus."""
    given = float(os.environ.get("MYC_CPUS", "1"))
    return max(1, min(round(given), len(os.sched_getaffinity(0))))


if __name__ == "__main__":
    sys.exit(main())
