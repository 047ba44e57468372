"""What Polymer needs from outside of itself, by name: a pool of this machine, a place for results, a site.

`mycelium/__init__`, which Python runs before any other module of the package, says what each is.
Never: imports anything, since it is a part of `import mycelium`.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in typing, whose import would take longer than all the rest here

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mycelium.polymer.program.graph import Module
    from mycelium.polymer.runtime.memo import Memo

local_pool: Callable[[int | None], Any]  # given the number of workers, or None for all cores
local_memo: Callable[[], Memo]
run_on_site: Callable[[Module, dict[str, Any], str, str, dict[str, Any]], Any]  # inputs, URL, token, keys of a job
