"""What rank 0's command is told, so that launchers of MPI find the other ranks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mycelium.base.errors import Refused
from mycelium.programs.mpi import place
from mycelium.programs.mpi.lead import environment

STEP = {
    "MYC_NODE_RANK": "0",
    "MYC_NODE_ADDRESSES": "10.0.0.1,10.0.0.2",
    "MYC_GANG_PORT": "20001",
    "MYC_GANG_SECRET": "s",
    "MYC_CPUS": "2.5",
}


def test_launchers_find_every_rank_with_as_many_slots_as_whole_cpus(tmp_path: Path) -> None:
    told = environment(place.read(STEP), {"10.0.0.2": 4242}, tmp_path)
    assert Path(told["OMPI_MCA_orte_default_hostfile"]).read_text() == "10.0.0.1 slots=2\n10.0.0.2 slots=2\n"
    assert Path(told["HYDRA_HOST_FILE"]).read_text() == "10.0.0.1:2\n10.0.0.2:2\n"
    assert json.loads(Path(told[place.PEERS]).read_text()) == {"10.0.0.2": 4242}


def test_outside_of_a_gang_it_says_what_to_do() -> None:
    with pytest.raises(Refused, match="MYC_GANG_PORT is not set: this is not a step of a gang") as refused:
        place.read({name: value for name, value in STEP.items() if name != "MYC_GANG_PORT"})
    assert "--nodes 2 or more" in refused.value.hint
