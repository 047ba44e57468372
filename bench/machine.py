"""What machine the figures are from, in one line: nobody can read a figure without it."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import psutil


def machine() -> str:
    """Processor, memory, system and how busy others keep it."""
    load = os.getloadavg()[0]
    busy = f"load {load:.1f} at the start" + (
        ": others were at work, so figures are worse than they could be" * (load > 1)
    )
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cpus ({processor()}), {memory}, {system}; {busy}"


def processor() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()
