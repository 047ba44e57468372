"""A joblib backend: `with joblib.parallel_config("mycelium"): ...` after `import mycelium.polymer.joblib`.

joblib batches its tasks itself; each batch is one call here. Needs joblib, which is nobody's dependency here.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import Any

from joblib import parallel  # type: ignore[import-not-found]
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase  # type: ignore[import-not-found]

from mycelium.polymer.executor import Executor
from mycelium.polymer.here import pool


class MyceliumBackend(AutoBatchingMixin, ParallelBackendBase):
    """Batches of joblib on the pool that programs share here."""

    supports_retrieve_callback = True
    supports_timeout = True
    uses_threads = False

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        slots = pool().slots
        return slots if n_jobs is None or n_jobs < 0 else max(1, min(n_jobs, slots))

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_: Any) -> int:
        self.parallel = parallel
        self.executor = Executor(pool=pool())
        return self.effective_n_jobs(n_jobs)

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], None] | None = None) -> Any:
        future = self.executor.submit(func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: concurrent.futures.Future[Any]) -> Any:
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        self.executor.shutdown(wait=False, cancel_futures=True)
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)


parallel.register_parallel_backend("mycelium", MyceliumBackend)
