from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from mycelium.agent.shim.plan import environment, payload_of
from mycelium.base.ids import StepId
from mycelium.base.limits import TMP_BYTES_MAX
from mycelium.base.units import MIB
from mycelium.engine.orders import Sandbox, Step
from mycelium.engine.spec import Spec
from mycelium.nodes.model import Devices


def step(**more: Any) -> Step:
    asked = Step(StepId("job-1-a1-r0"), ("true",), Devices(1000, 64 * MIB), 60_000, 1_000, Sandbox.PROCESS)
    return replace(asked, **more)


def spec(wanted: Step | None = None, **more: Any) -> Spec:
    given = Spec(
        wanted or step(),
        uid=70_000,
        cores=(1,),
        path="/usr/bin",
        prefixes=("/opt/python",),
        etc="/etc-copy",
        hidden=("/home/site",),
        hostname="n1",
        bwrap="/usr/bin/bwrap",
    )
    return replace(given, **more)


def test_a_payload_inherits_four_variables_and_its_own_win() -> None:
    plain = environment(spec(), "/job", "/tmp")
    assert plain == {"PATH": "/usr/bin", "HOME": "/job", "TMPDIR": "/tmp", "LANG": "C.UTF-8"}
    asked = spec(step(env={"PATH": "/mine", "MYC_JOB": "job-1"}))
    assert environment(asked, "/job", "/tmp") == plain | {"PATH": "/mine", "MYC_JOB": "job-1"}


def test_a_step_on_a_node_with_gpus_sees_only_its_own() -> None:
    assert environment(spec(gpus=(1, 3)), "/job", "/tmp")["CUDA_VISIBLE_DEVICES"] == "1,3"
    none = environment(spec(gpus=()), "/job", "/tmp")
    assert (none["CUDA_VISIBLE_DEVICES"], none["NVIDIA_VISIBLE_DEVICES"]) == ("", "void")
    assert "CUDA_VISIBLE_DEVICES" not in environment(spec(), "/job", "/tmp")


def test_files_in_memory_are_bounded_by_the_steps_memory() -> None:
    box = payload_of(spec(), "/steps/a", None).box
    assert box is not None
    assert (box.tmp_bytes, box.shm_bytes) == (64 * MIB, 64 * MIB)
    box = payload_of(spec(step(devices=Devices(1000, 1 << 50))), "/steps/a", None).box
    assert box is not None
    assert box.tmp_bytes == TMP_BYTES_MAX


def test_the_sites_home_is_hidden_and_only_the_work_is_given() -> None:
    payload = payload_of(spec(), "/home/site/nodes/node-1/steps/a", None)
    assert payload.box is not None
    assert payload.box.work == "/home/site/nodes/node-1/steps/a/work"
    assert payload.box.hidden == ("/home/site",)
    assert payload.env == {}


def test_a_naked_step_has_no_box_and_its_own_tmp(tmp_path: Path) -> None:
    payload = payload_of(spec(step(sandbox=Sandbox.NONE), uid=None), str(tmp_path), None)
    assert payload.box is None
    assert payload.env["TMPDIR"] == f"{tmp_path}/tmp"
    assert (tmp_path / "tmp").is_dir()
