"""The record in a step's directory: whoever wrote it, it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from mycelium.base.ids import Digest, StepId
from mycelium.base.limits import STEP_DISK_BYTES
from mycelium.engine import spec, step_files
from mycelium.engine.orders import WIRE_VERSION, Sandbox, Step
from mycelium.engine.spec import Spec
from mycelium.nodes.model import Devices

STEP = Step(StepId("job-1-a1-r0"), ("true", "x"), Devices(1000, 1 << 28), 60_000, 1_000, Sandbox.PROCESS)

# What an agent of 0.1 left in a step's directory.
FROM_0_1: dict[str, Any] = {
    "step": {
        "id": "job-7-a2-r0",
        "command": ["python3", "replica.py"],
        "devices": {"cpu_m": 2000, "memory_bytes": 1 << 30, "gpus": 1},
        "time_ms": 0,
        "grace_ms": 10_000,
        "sandbox": "process",
        "net": False,
        "env": {"MYC_JOB_ID": "job-7"},
        "workdir": "ab" * 32,
        "inputs": [["inputs/job-3", "cd" * 32]],
        "outputs": ["out/*"],
        "disk_bytes": 0,
        "port": 20_001,
    },
    "boxed": True,
    "uid": 70_001,
    "cores": [0, 1],
    "gpus": [3],
    "disk_bytes": STEP_DISK_BYTES,
    "path": "/opt/python/bin:/usr/bin:/bin",
    "prefixes": ["/opt/python"],
    "etc": "/home/site/nodes/node-1/etc.1-2",
    "hidden": ["/home/site"],
    "hostname": "attic",
    "bwrap": "/usr/bin/bwrap",
    "pool": "",
    "cgroup": None,
}


def read(directory: Path, content: bytes) -> Spec | None:
    (directory / step_files.SPEC).write_bytes(content)
    return spec.read(str(directory))


def test_a_spec_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = Spec(
        replace(STEP, service=True, env={"A": "b"}, inputs=(("in", Digest("ab" * 32)),), outputs=("*",)),
        wire=WIRE_VERSION,
        uid=7,
        cores=(1, 2),
        gpus=(),
        disk_bytes=5,
        path="/bin",
        prefixes=("/opt",),
        etc="/etc",
        hidden=("/home",),
        hostname="n",
        bwrap="/usr/bin/bwrap",
        pool="/pool",
        cgroup="/sys/fs/cgroup/x",
    )
    assert read(tmp_path, msgspec.json.encode(written)) == written


def test_a_spec_of_0_1_is_read_whole(tmp_path: Path) -> None:
    found = read(tmp_path, json.dumps(FROM_0_1).encode())
    assert found is not None
    said = json.loads(msgspec.json.encode(found))
    assert said["step"] == FROM_0_1["step"] | {"service": True}
    assert {key: value for key, value in FROM_0_1.items() if key not in ("step", "boxed")} == {
        key: value for key, value in said.items() if key not in ("step", "wire")
    }
    assert found.boxed


def test_a_step_of_0_1_is_a_service_if_it_has_no_time_limit_and_one_of_today_if_it_says_so(tmp_path: Path) -> None:
    for time_ms, service in ((0, True), (60_000, False)):
        found = read(tmp_path, json.dumps({"step": FROM_0_1["step"] | {"time_ms": time_ms}}).encode())
        assert found is not None
        assert found.step.service is service
    for service in (True, False):
        found = read(tmp_path, msgspec.json.encode(Spec(replace(STEP, time_ms=0, service=service), WIRE_VERSION)))
        assert found is not None
        assert found.step.service is service


def test_what_an_older_agent_did_not_write_is_what_it_went_without(tmp_path: Path) -> None:
    assert read(tmp_path, json.dumps({"step": msgspec.to_builtins(STEP)}).encode()) == Spec(STEP)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"step": 3}',
        b'{"step": {}}',
        b'{"step": {"id": "x", "time_ms": 0}}',
        b"[" * 100_000,
        b'{"step": "\xff"}',
    ],
)
def test_what_is_no_spec_is_none(tmp_path: Path, content: bytes) -> None:
    assert read(tmp_path, content) is None


def test_a_directory_without_a_spec_has_none(tmp_path: Path) -> None:
    assert spec.read(str(tmp_path)) is None
