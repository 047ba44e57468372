"""The package's top: light, and there before everything else."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mycelium


def _said(code: str) -> list[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_importing_the_top_loads_nothing_but_the_seam_that_it_fills() -> None:
    loaded = _said("import sys; known = set(sys.modules); import mycelium; print(*sorted(set(sys.modules) - known))")
    assert [name for name in loaded if name != "__future__"] == [
        "mycelium",
        "mycelium.polymer",
        "mycelium.polymer.outside",
    ]


@pytest.mark.parametrize("module", ["polymer.verbs", "polymer.define", "polymer.here", "kernels"])
def test_whichever_module_is_named_first_polymer_knows_what_is_outside(module: str) -> None:
    names = "outside.local_pool.__name__, outside.local_memo.__name__, outside.run_on_site.__name__"
    said = _said(f"import mycelium.{module}; from mycelium.polymer import outside; print({names})")
    assert said == ["local_pool", "local_memo", "run_on_site"]


def test_every_name_that_the_top_offers_is_there() -> None:
    assert all(getattr(mycelium, name) is not None for name in dir(mycelium))
    with pytest.raises(AttributeError, match="no attribute 'pool'"):
        mycelium.pool  # type: ignore[attr-defined]  # noqa: B018
