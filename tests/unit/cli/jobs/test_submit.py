from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mycelium.base.errors import Missing, Refused
from mycelium.cli.jobs.submit import read_file
from mycelium.client.lines import line_of


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "job.toml"
    path.write_text(text)
    return path


def test_a_job_file_becomes_a_document(tmp_path: Path):
    path = written(tmp_path, 'command = ["echo", "hi"]\ncpus = 2\n[env]\nA = "1"\n')
    assert read_file(path) == {"command": ["echo", "hi"], "cpus": 2, "env": {"A": "1"}}


def test_every_mistake_is_told_at_once_with_its_line_and_a_hint(tmp_path: Path):
    path = written(tmp_path, 'command = []\n\nmemry = "1G"\ncpus = "many"\n\n[env]\n"a b" = "1"\n')
    with pytest.raises(Refused) as caught:
        read_file(path)
    lines = caught.value.message.splitlines()
    assert lines[0] == "4 mistakes:"
    assert [line.split(": ")[0].strip() for line in lines[1:]] == [f"{path}:{number}" for number in (1, 3, 4, 7)]
    assert "did you mean 'memory'?" in lines[2]
    assert "write 1, 4 or 0.5" in lines[3]


def test_every_mistake_within_env_is_told_on_its_own_line(tmp_path: Path):
    path = written(tmp_path, 'command = "true"\n[env]\nSEED = 7\nGOOD = "1"\nB = true\n')
    with pytest.raises(Refused) as caught:
        read_file(path)
    assert [fault.where for fault in caught.value.faults] == [f"{path}:3: env.SEED", f"{path}:5: env.B"]
    body: Any = caught.value.body()
    listed = body["error"]["faults"]
    assert listed[0] == {"where": f"{path}:3: env.SEED", "message": "must be a text", "hint": 'write SEED = "…"'}


def test_a_bad_command_does_not_hide_a_missing_directory(tmp_path: Path):
    path = written(tmp_path, 'command = []\nworkdir = "/nowhere/at/all"\n')
    with pytest.raises(Refused, match="2 mistakes") as caught:
        read_file(path)
    assert "there is no directory '/nowhere/at/all'" in caught.value.message


def test_what_is_missing_has_no_line(tmp_path: Path):
    path = written(tmp_path, "cpus = 1\n")
    with pytest.raises(Refused, match=r"job\.toml: command: is missing"):
        read_file(path)


def test_a_file_that_is_no_toml_says_where(tmp_path: Path):
    path = written(tmp_path, 'command = ["echo"\ncpus = 1\n')
    with pytest.raises(Refused, match=r"is not TOML: .*line 2"):
        read_file(path)


def test_the_directory_to_send_along_must_be_named_as_text(tmp_path: Path):
    path = written(tmp_path, 'command = "true"\nworkdir = 7\n')
    with pytest.raises(Refused, match=r"job\.toml:2: workdir: must be a directory"):
        read_file(path)


def test_no_such_file_is_missing(tmp_path: Path):
    with pytest.raises(Missing, match="there is no file"):
        read_file(tmp_path / "job.toml")


def test_a_directory_is_no_job_file(tmp_path: Path):
    with pytest.raises(Refused, match="is a directory"):
        read_file(tmp_path)


def test_bytes_that_are_no_text_are_no_job_file(tmp_path: Path):
    path = tmp_path / "job.toml"
    path.write_bytes(b'command = "\xff"')
    with pytest.raises(Refused, match="not UTF-8"):
        read_file(path)


def test_a_huge_file_is_no_job_file(tmp_path: Path):
    path = tmp_path / "job.toml"
    path.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(Refused, match="that is not a job file"):
        read_file(path)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("cpus = 1", 1),
        ("\n  cpus=1", 2),
        ('"cpus" = 1', 1),
        ("[cpus]", 1),
        ("[[ cpus ]]", 1),
        ("cpus.x = 1", 1),
        ("# cpus = 1", None),
        ("cpusx = 1", None),
        ("", None),
    ],
)
def test_a_key_is_found_on_its_line(text: str, line: int | None):
    assert line_of(text, "cpus") == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[env]\nA = 1\nSEED = 7", 3),
        ("[env]\n'SEED' = 7", 2),
        ("env.SEED = 7", 1),
        ("env = { SEED = 7 }", 1),
        ("[other]\nSEED = 1\n[env]\nSEED = 7", 4),
        ("SEED = 1", None),
        ('"env.SEED" = 1', 1),
    ],
)
def test_a_key_of_a_table_is_found_on_its_line(text: str, line: int | None):
    assert line_of(text, "env.SEED") == line
