from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mycelium.agent import probes
from mycelium.nodes.select import unmet


def test_this_machine_has_cpus_and_memory() -> None:
    assert probes.cores() == sorted(os.sched_getaffinity(0))
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert total // 2 < probes.memory_bytes() < total
    assert 0 < probes.memory_used_bytes() < total


def test_labels_are_what_selectors_ask_for() -> None:
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    from mycelium.nodes.select import parse_terms

    assert unmet(parse_terms(f"os=linux,arch={arch},!no-such"), probes.labels(Path("/"))) == []


def test_every_interpreter_on_the_way_to_the_real_one_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """uv's layout: the environment's python links to a versioned name, which links to the installation."""
    real = tmp_path / "cpython-3.12.5"
    (real / "bin").mkdir(parents=True)
    (real / "bin" / "python3.12").touch()
    (tmp_path / "cpython-3.12").symlink_to(real)
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(tmp_path / "cpython-3.12" / "bin" / "python3.12")
    monkeypatch.setattr(sys, "prefix", str(venv))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "cpython-3.12"))
    monkeypatch.setattr(sys, "executable", str(venv / "bin" / "python"))
    assert set(probes.python_prefixes()) == {str(venv), str(real), str(tmp_path / "cpython-3.12")}


def test_the_systems_own_python_needs_no_showing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("prefix", "base_prefix"):
        monkeypatch.setattr(sys, name, "/usr")
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    assert probes.python_prefixes() == ()


def test_the_packages_own_sources_are_shown_unless_a_prefix_holds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path(probes.__file__).parents[1]
    monkeypatch.setattr(probes, "python_prefixes", lambda: (str(tmp_path),))
    assert probes.own_sources() == (str(own),)
    monkeypatch.setattr(probes, "python_prefixes", lambda: (str(own.parents[1]),))
    assert probes.own_sources() == ()
