"""The table of a job's keys is what everybody asks."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import fields

from mycelium.base.errors import Refused
from mycelium.cli import reference
from mycelium.cli.commands import COMMANDS
from mycelium.cli.jobs.submit import read_file
from mycelium.cli.lazy import load
from mycelium.cli.main import run
from mycelium.jobs import kinds
from mycelium.jobs.keys import KEYS, JobKey, Option, shown
from mycelium.jobs.model import Request
from mycelium.jobs.request import read

LEAST = {"command": ["true"]}


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that no job has, by one line. Modules that make something of the table when they load are loaded anew."""
    for module in ("mycelium.cli.jobs.run", "mycelium.serve.http.schema"):
        importlib.import_module(module)  # what comes back afterwards knows nothing of the pretended key
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(KEYS, "service", JobKey(kinds.YES, False, "run until it is told to end", Option()))


@pytest.mark.usefixtures("pretended")
def test_one_line_in_the_table_is_a_key_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["run", "--help"]) == 0
    assert re.search(r"--service +Run until it is told to end\.", capsys.readouterr().out)

    sent: list[Any] = []
    module = sys.modules["mycelium.cli.jobs.run"]
    monkeypatch.setattr(module, "carry_out", lambda document, workdir, **_: sent.append(document) or 0)
    assert run(["run", "--service", "--", "true"]) == 0
    assert sent == [{"command": ["true"], "service": True}]

    path = tmp_path / "job.toml"
    path.write_text('command = "true"\nservice = true\n')
    assert read_file(path)["service"] is True
    path.write_text('command = "true"\nservice = 7\n')
    with pytest.raises(Refused, match=r"job\.toml:2: service: must be true or false"):
        read_file(path)

    assert read({**LEAST, "service": True}).service
    assert shown(read({**LEAST, "service": True}))["service"] is True

    schema = importlib.import_module("mycelium.serve.http.schema")
    says = {"type": "boolean", "description": "run until it is told to end"}
    assert schema.JOB["properties"]["service"] == says
    assert "| `service` | run until it is told to end |" in reference.page()
    assert "| `--service` | Run until it is told to end. |" in reference.page()


def test_without_the_line_it_is_no_key_anywhere() -> None:
    with pytest.raises(Refused, match="service: unknown key"):
        read({**LEAST, "service": True})
    assert "service" not in {param.name for param in load(COMMANDS["run"]).params}
    assert "service" not in shown(read(LEAST))


@pytest.mark.parametrize("name", [name for name, key in KEYS.items() if key.unsaid and name != "name"])
def test_what_the_help_says_of_a_default_is_the_default(name: str) -> None:
    key = KEYS[name]
    assert key.kind.read(key.unsaid) == key.default


SAID: dict[str, Any] = {
    "cpus": 0.5,
    "memory": "1G",
    "gpus": 1,
    "nodes": 2,
    "array": "0-8:2%3",
    "after": ["job-1"],
    "inputs": ["job-2"],
    "priority": "low",
    "on": "gpu,!virtual",
    "retries": 3,
    "env": {"A": "b"},
    "net": True,
    "outputs": ["*.json"],
    "sandbox": "none",
    "workdir": "a" * 64,
}


@pytest.mark.parametrize("name", SAID)
def test_what_a_request_shows_of_a_key_can_be_said_again(name: str) -> None:
    said = KEYS[name].kind.read(SAID[name])
    assert KEYS[name].kind.read(shown(read({**LEAST, name: SAID[name]}))[name]) == said


def test_a_request_shows_every_key_but_those_of_the_job_itself() -> None:
    assert set(shown(read(LEAST))) == set(KEYS) - {"command", "name"} == {*SAID, "time", "program", "input"}


def test_every_key_is_a_field_of_a_request() -> None:
    apart = {"cpus": "needs", "memory": "needs", "gpus": "needs", "time": "time_ms"}
    assert {apart.get(name, name) for name in KEYS} <= {field.name for field in fields(Request)}
