"""Whether this machine can sandbox a step, found out once: what needs it skips with the reason."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import pytest

from mycelium.agent import probes
from mycelium.sandbox import etc
from mycelium.sandbox.probe import SandboxOffer, probe


@cache
def offer() -> SandboxOffer:
    with tempfile.TemporaryDirectory() as directory:
        etc.make(Path(directory) / "etc")
        work = Path(directory) / "work"
        work.mkdir()
        work.chmod(0o755)
        return probe(Path(directory) / "etc", work, probes.python_prefixes())


needs_sandbox = pytest.mark.skipif(not offer().bwrap, reason=f"steps cannot be sandboxed here: {offer().why_not}")
