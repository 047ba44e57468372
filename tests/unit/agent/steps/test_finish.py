from __future__ import annotations

import os
from pathlib import Path

import pytest

from mycelium.agent.shim.pump import StreamLog
from mycelium.agent.steps import finish
from mycelium.base.errors import Exhausted
from mycelium.base.ids import StepId
from mycelium.base.units import MIB
from mycelium.engine.orders import Ended, Reason, Sandbox, Step
from mycelium.nodes.model import Devices
from mycelium.store.directory import DirectoryObjects
from mycelium.store.unpack import unpack

WELL = Ended(Reason.EXIT, 0, ended_ns=5)


def step(*outputs: str) -> Step:
    return Step(StepId("job-1-a1-r0"), ("true",), Devices(), 0, 0, Sandbox.NONE, outputs=outputs)


@pytest.fixture
def objects(tmp_path: Path) -> DirectoryObjects:
    return DirectoryObjects(tmp_path / "objects")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "step" / "work").mkdir(parents=True)
    return tmp_path / "step"


def write(directory: Path, stream: str, *parts: bytes) -> None:
    log = StreamLog(str(directory), stream, segment_bytes=4)
    for part in parts:
        log.write(part)
    log.close()


def test_a_silent_step_without_outputs_leaves_nothing(directory: Path) -> None:
    assert not finish.has_leavings(step(), WELL, directory)


def test_logs_are_joined_into_one_object_each(directory: Path, objects: DirectoryObjects) -> None:
    write(directory, "stdout", b"0123456789", b"abc")
    assert finish.has_leavings(step(), WELL, directory)
    ended = finish.keep(step(), WELL, directory, objects)
    assert ended.stdout is not None
    assert objects.read(ended.stdout) == b"0123456789abc"
    assert ended.stderr is None


def test_outputs_are_kept_after_a_good_end_only(directory: Path, objects: DirectoryObjects, tmp_path: Path) -> None:
    (directory / "work" / "out").write_text("made")
    ended = finish.keep(step("out"), WELL, directory, objects)
    assert ended.outputs is not None
    unpack(objects, ended.outputs, tmp_path / "got")
    assert (tmp_path / "got" / "out").read_text() == "made"
    for other in (Ended(Reason.EXIT, 1), Ended(Reason.TIME, 0), Ended(Reason.STOPPED, 0)):
        assert finish.keep(step("out"), other, directory, objects).outputs is None
        assert not finish.has_leavings(step("out"), other, directory)


def test_a_step_whose_outputs_cannot_be_kept_has_not_succeeded(
    directory: Path, objects: DirectoryObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finish, "OUTPUT_BYTES_MAX", 10)
    (directory / "work" / "out").write_bytes(bytes(MIB))
    ended = finish.keep(step("out"), WELL, directory, objects)
    assert (ended.reason, ended.exit_code, ended.outputs) == (Reason.DISK, 1, None)
    assert "outputs not kept" in ended.message


def test_a_log_that_cannot_be_kept_is_said_and_changes_nothing_else(
    directory: Path, objects: DirectoryObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise Exhausted("the disk is full")

    monkeypatch.setattr(objects, "begin", full)
    write(directory, "stdout", b"said")
    ended = finish.keep(step(), WELL, directory, objects)
    assert (ended.exit_code, ended.stdout) == (0, None)
    assert ended.message == "log not kept: the disk is full"


def test_an_end_is_read_back_as_it_was_written(directory: Path) -> None:
    assert finish.read_ended(directory) is None
    finish.write_ended(WELL, directory)
    assert finish.read_ended(directory) == WELL
    (directory / "ended").write_text('{"reason": "odd"}')
    assert finish.read_ended(directory) is None


def test_the_part_of_a_log_that_was_dropped_is_counted(directory: Path, objects: DirectoryObjects) -> None:
    log = StreamLog(str(directory), "stdout", bytes_max=8, segment_bytes=4)
    log.write(b"0123456789abcdef")
    log.close()
    ended = finish.keep(step(), WELL, directory, objects)
    assert ended.stdout is not None
    assert objects.read(ended.stdout) == b"89abcdef"
    assert (ended.stdout_from, ended.stderr_from) == (8, 0)


def test_a_link_that_leads_out_is_left_out_of_the_outputs_and_named(
    directory: Path, objects: DirectoryObjects, tmp_path: Path
) -> None:
    (directory / "work" / "good").write_text("made")
    (directory / "work" / "abs").symlink_to("/etc/passwd")
    (directory / "work" / "near").symlink_to("good")
    ended = finish.keep(step("*"), WELL, directory, objects)
    assert (ended.reason, ended.exit_code) == (Reason.EXIT, 0)
    assert ended.message == "left out of the outputs: abs: is a link out of the outputs, to '/etc/passwd'"
    assert ended.outputs is not None
    unpack(objects, ended.outputs, tmp_path / "got")
    assert sorted(path.name for path in (tmp_path / "got").iterdir()) == ["good", "near"]


def test_a_file_of_somebody_else_is_left_out_of_the_outputs(directory: Path, objects: DirectoryObjects) -> None:
    (directory / "work" / "foreign").write_text("a hard link, perhaps")
    ended = finish.keep(step("*"), WELL, directory, objects, uid=os.geteuid() + 1)
    assert (ended.outputs, ended.message) == (None, "left out of the outputs: foreign: belongs to somebody else")
