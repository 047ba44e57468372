"""What the process behind every step has loaded: its pages are those of every shim."""

from __future__ import annotations

import json
import subprocess
import sys

from mycelium.agent.steps.launcher import MSGSPEC, OURS

LOADED = """
import json, sys
sys.path[:] = [sys.argv[1], *sys.path, sys.argv[2]]
import mycelium.agent.shim.forkserver
print(json.dumps({name: getattr(module, "__file__", None) for name, module in sys.modules.items()}))
"""


def test_shims_load_the_standard_library_msgspec_and_rules_and_no_more() -> None:
    words = [sys.executable, "-I", "-S", "-c", LOADED, OURS, MSGSPEC]
    found = json.loads(subprocess.run(words, capture_output=True, check=True, cwd="/").stdout)
    strangers = {name.partition(".")[0] for name in found} - {*sys.stdlib_module_names, "__main__"}
    assert strangers - {"typing_extensions"} == {"mycelium", "msgspec"}  # msgspec itself looks for the first of them
    rooms = {name.split(".")[1] for name in found if name.startswith("mycelium.")}
    assert rooms - {"polymer"} == {"accounts", "agent", "base", "engine", "jobs", "nodes", "sandbox"}
    # What the top of the package itself looks into.
    assert {name for name in found if name.startswith("mycelium.polymer.")} <= {"mycelium.polymer.outside"}
    assert not {"asyncio", "socketserver", "ssl", "logging", "psutil", "numpy"} & set(found)
