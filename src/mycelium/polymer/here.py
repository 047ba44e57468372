"""Running programs in this process's surroundings: on the pool of this machine, which all of them share.

The one place that remembers a pool between calls. Never: makes a pool by itself; see `outside`.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from mycelium.polymer import outside
from mycelium.polymer.compiler.compile import optimise
from mycelium.polymer.program.graph import Module
from mycelium.polymer.program.inputs import check_inputs
from mycelium.polymer.runtime.costs import Cost
from mycelium.polymer.runtime.dataflow import run
from mycelium.polymer.runtime.interpreter import interpret
from mycelium.polymer.runtime.memo import Memo
from mycelium.polymer.runtime.pool import Pool
from mycelium.polymer.runtime.progress import Bar

PROGRESS_AFTER_S = 2.0
IN_WORKER = "MYC_POOL_WORKER"  # set in a worker's environment: a map inside a kernel runs there, in order


class _Here:
    """What this process remembers: the pool that is shared, with the process that made it, and the kept results."""

    pool: Any = None
    pid = 0
    memo: Any = None


_lock = threading.Lock()
_chosen: ContextVar[Any] = ContextVar("chosen", default=None)  # by `on`, for this thread or task


@contextmanager
def on(pool: Any) -> Generator[Any]:
    """Whatever runs inside runs on this pool, which is closed at the end: `with my.on(my.ray_pool(address)): ...`"""
    with pool:
        token = _chosen.set(pool)
        try:
            yield pool
        finally:
            _chosen.reset(token)


def chosen() -> Any:
    """The pool of the `with my.on(...)` around the caller, or None."""
    return _chosen.get()


def pool() -> Pool:
    """The pool that `on` says, or else the one that programs share here, started at the first use."""
    if (held := chosen()) is not None:
        return held
    with _lock:
        if _Here.pid != os.getpid() or _Here.pool.closing:
            _Here.pool, _Here.pid = outside.local_pool(None), os.getpid()
        return _Here.pool


def memo(module: Module) -> Memo | None:
    """Where results are kept, for programs that ask for it."""
    if not any(kernel.cache for kernel in module.kernels.values()):
        return None
    with _lock:
        if _Here.memo is None:
            _Here.memo = outside.local_memo()
        return _Here.memo


def execute(
    module: Module,
    inputs: Mapping[str, Any],
    *,
    on: Pool | None = None,
    passes: bool = True,
    costs: dict[str, Cost] | None = None,
) -> Any:
    """The program's result, on `on` or on the shared pool. Inputs are checked against the program's types first.

    `costs` is filled with what calls took.
    """
    check_inputs(module, dict(inputs))
    if on is None and os.environ.get(IN_WORKER):
        return interpret(module, inputs)
    bar, kept = _bar(), memo(module)
    try:
        graph = optimise(module) if passes else module
        return run(graph, inputs, on or pool(), watch=bar, memo=kept, costs=costs)
    finally:
        if kept is not None:
            kept.settle()
        if bar is not None:
            bar.close()


def _bar() -> Bar | None:
    """A progress bar for runs that take long, where somebody is looking."""
    if not (sys.stderr.isatty() and threading.current_thread() is threading.main_thread()):
        return None
    return Bar(time.monotonic, PROGRESS_AFTER_S)
