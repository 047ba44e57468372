"""Names that commands begin with: the log holds them for ever."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mycelium.agent.shim.names import MODULES, resolve
from mycelium.jobs.request import read

MPI = {"MYC_NODE_RANK": "0", "MYC_NODE_ADDRESSES": "127.0.0.1", "MYC_GANG_SECRET": "s", "MYC_GANG_PORT": "0"}


def test_every_name_that_a_log_may_hold_is_known_and_leads_to_something_that_runs() -> None:
    assert set(MODULES) >= {"myc:program", "myc:mpi"}
    for module in MODULES.values():
        assert importlib.util.find_spec(f"{module}.__main__") is not None


def test_a_name_is_run_by_the_nodes_own_python_and_keeps_its_words() -> None:
    assert resolve(("myc:mpi", "mpirun", "./ring")) == (
        *(sys.executable, "-P", "-m", MODULES["myc:mpi"]),
        *("mpirun", "./ring"),
    )


@pytest.mark.parametrize("command", [("echo", "myc:mpi"), ("./myc:mpi",), ("myc:unknown",), ("python3", "-m", "x")])
def test_any_other_command_stays_as_it_was_typed(command: tuple[str, ...]) -> None:
    assert resolve(command) == command


def test_a_new_program_job_holds_a_name_and_no_place_of_a_module() -> None:
    request = read({"program": "a" * 64, "input": "b" * 64})
    assert request.command[0] in MODULES
    assert not any("mycelium" in word for word in request.command)


@pytest.mark.parametrize(
    "command",
    [("python3", "-P", "-m", "mycelium.engine.gang"), ("python3", "-m", "mycelium.programs.mpi"), ("myc:mpi",)],
)
def test_every_word_that_mpi_ever_had_runs_a_gangs_command(command: tuple[str, ...], tmp_path: Path) -> None:
    words = [sys.executable if word == "python3" else word for word in resolve(command)]
    script = "import os, json; print(json.dumps(sorted(name for name in os.environ if name.startswith('OMPI_'))))"
    ran = subprocess.run(
        [*words, sys.executable, "-c", script], env=os.environ | MPI, cwd=tmp_path, capture_output=True, check=True
    )
    assert "OMPI_MCA_plm_rsh_agent" in json.loads(ran.stdout)


@pytest.mark.parametrize("module", ["mycelium.engine.program", "mycelium.programs"])
def test_every_word_that_programs_ever_had_still_runs_them(module: str, tmp_path: Path) -> None:
    """Here there is no program to run: it is the runner that says so."""
    ran = subprocess.run(
        [sys.executable, "-P", "-m", module], cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert "program.pmr" in ran.stderr
