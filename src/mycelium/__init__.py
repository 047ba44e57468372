"""Mycelium: an operating system for clusters of unlike machines.

`import mycelium as my` gives Polymer's verbs (`my.kernel`, `my.map`, ...); they are loaded when they are first named.
The only module that knows both Polymer and the rooms above it. Never: imported by another module of the package.
"""

from __future__ import annotations

from mycelium.polymer import outside

TYPE_CHECKING = False  # as in typing, whose import would take longer than everything else here

if TYPE_CHECKING:
    from typing import Any

    from mycelium.base.version import __version__ as __version__
    from mycelium.polymer.define import program as program
    from mycelium.polymer.executor import Executor as Executor
    from mycelium.polymer.function import kernel as kernel
    from mycelium.polymer.function import wasm as wasm
    from mycelium.polymer.here import on as on
    from mycelium.polymer.program.graph import Module
    from mycelium.polymer.verbs import loop as loop
    from mycelium.polymer.verbs import map as map
    from mycelium.polymer.verbs import reduce as reduce
    from mycelium.polymer.verbs import ref as ref
    from mycelium.polymer.verbs import scan as scan
    from mycelium.polymer.verbs import select as select
    from mycelium.polymer.verbs import zip as zip
    from mycelium.pools.local.pool import LocalPool
    from mycelium.pools.ray.pool import RayPool
    from mycelium.programs.results import StoredMemo

_EXPORTS = {
    "__version__": "mycelium.base.version",
    "kernel": "mycelium.polymer.function",
    "wasm": "mycelium.polymer.function",
    "program": "mycelium.polymer.define",
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


def run_on_site(module: Module, inputs: dict[str, Any], url: str, token: str, asked: dict[str, Any]) -> Any:
    """A program's result, computed by a site. `asked` are keys of a job, such as cpus and nodes."""
    from mycelium.client.program import run_module

    return run_module(module, inputs, url, token, asked)


def ray_pool(address: str, **how: Any) -> RayPool:
    """A pool on the machines of a Ray that runs, for `with my.on(...)`: see `RayPool`."""
    from mycelium.pools.ray.pool import RayPool

    return RayPool(address, **how)


def local_pool(workers: int | None = None) -> LocalPool:
    """A pool of this machine, of so many workers, or of one for each core."""
    from mycelium.pools.local.pool import LocalPool

    return LocalPool(workers)


def local_memo() -> StoredMemo:
    """Where programs that no site runs keep the results of kernels that say `cache=True`."""
    from mycelium.programs.results import StoredMemo, home

    return StoredMemo(home())


outside.local_pool, outside.local_memo, outside.run_on_site = local_pool, local_memo, run_on_site
