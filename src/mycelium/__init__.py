"""Mycelium: an operating system for clusters of unlike machines.

`import mycelium as my` gives Polymer's verbs (`my.kernel`, `my.map`, ...); they are loaded when they are first named.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in typing, whose import would take longer than everything else here

if TYPE_CHECKING:
    from typing import Any

    from mycelium.polymer.executor import Executor as Executor
    from mycelium.polymer.function import kernel as kernel
    from mycelium.polymer.function import wasm as wasm
    from mycelium.polymer.here import on as on
    from mycelium.polymer.program.define import program as program
    from mycelium.polymer.verbs import loop as loop
    from mycelium.polymer.verbs import map as map
    from mycelium.polymer.verbs import reduce as reduce
    from mycelium.polymer.verbs import ref as ref
    from mycelium.polymer.verbs import scan as scan
    from mycelium.polymer.verbs import select as select
    from mycelium.polymer.verbs import zip as zip

__version__ = "0.1.0"

_EXPORTS = {
    "kernel": "mycelium.polymer.function",
    "wasm": "mycelium.polymer.function",
    "program": "mycelium.polymer.program.define",
    "Executor": "mycelium.polymer.executor",
    "on": "mycelium.polymer.here",
    **dict.fromkeys(("map", "zip", "reduce", "scan", "select", "loop", "ref"), "mycelium.polymer.verbs"),
}


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'mycelium' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})


def run_on_site(*what: Any, **how: Any) -> Any:
    """A program's result, computed by a site: where Polymer meets the client of a site (see client/program.py)."""
    import importlib

    return importlib.import_module("mycelium.client.program").run_module(*what, **how)


def ray_pool(address: str, **how: Any) -> Any:
    """A pool on the machines of a Ray that runs, for `with my.on(...)`: see `RayPool` in pools/ray/pool.py."""
    import importlib

    return importlib.import_module("mycelium.pools.ray.pool").RayPool(address, **how)


def local_pool(workers: int | None) -> Any:
    """The pool of this machine, for programs that no site runs: where Polymer meets an engine."""
    import importlib

    return importlib.import_module("mycelium.pools.local.pool").LocalPool(workers)


def local_memo() -> Any:
    """Where programs that no site runs keep the results of kernels that say `cache=True`."""
    import importlib

    results = importlib.import_module("mycelium.programs.results")
    return results.StoredMemo(results.home())
