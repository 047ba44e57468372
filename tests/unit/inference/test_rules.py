"""Keys, files and batches: what is refused, and what happens once."""

from __future__ import annotations

import pytest

from mycelium.base.errors import Conflict, Denied, Missing, Refused
from mycelium.inference.commands import (
    AddFile,
    AddModel,
    CancelBatch,
    CheckBatch,
    ClaimBatch,
    CommitLines,
    CreateBatch,
    CreateKey,
    Deploy,
    EndBatch,
    RemoveFile,
    RemoveModel,
    RevokeKey,
)
from mycelium.inference.events import UsageRow
from mycelium.inference.model import BatchState, Mistake, ModelKind, Serving, Used
from mycelium.inference.rules import allows
from tests.unit.inference.scene import DIGEST, Scene, report


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    scene.model()
    return scene


def batch(scene: Scene, total: int = 10) -> None:
    scene.ask(AddFile(scene.account, "file-1", "in", "batch", 1, (DIGEST,)))
    scene.ask(CreateBatch(scene.account, "batch_1", "", "/v1/chat/completions", "file-1"))
    scene.ask(ClaimBatch("batch_1", "me"))
    scene.ask(CheckBatch("batch_1", "me", total))


def commit(first: int, last: int, runner: str = "me", used: Used | None = None) -> CommitLines:
    return CommitLines("batch_1", runner, ((first, last),), last - first, 0, DIGEST, None, (1, 0), used or Used())


@pytest.mark.parametrize("name", ["", "-x", "a b", "../a", "a/../b", "a/", "x" * 200, "a\n"])
def test_a_strange_name_is_refused(scene: Scene, name: str):
    with pytest.raises(Refused):
        scene.ask(AddModel(scene.account, name, DIGEST, 1, ModelKind.CHAT, ""))


def test_a_model_that_is_served_cannot_be_removed(scene: Scene):
    scene.deploy()
    with pytest.raises(Conflict, match="is served as"):
        scene.ask(RemoveModel(scene.account, "m"))


def test_what_is_anothers_cannot_be_changed(scene: Scene):
    scene.deploy()
    other = scene.play.account()
    with pytest.raises(Denied):
        scene.ask(Deploy(other, "m", Serving("m")))
    with pytest.raises(Denied):
        scene.ask(RemoveModel(other, "m"))
    with pytest.raises(Denied, match="only an admin"):
        scene.ask(Deploy(other, "elsewhere", Serving(upstream="http://localhost:8000/v1")))


def test_a_deployment_needs_a_model_or_an_upstream_and_sound_numbers(scene: Scene):
    for serving in (
        Serving(),
        Serving("m", upstream="http://x"),
        Serving(upstream="ftp://x"),
        Serving("m", replicas_min=3, replicas_max=2),
        Serving("m", parallel=0),
        Serving("m", context=1),
    ):
        with pytest.raises(Refused):
            scene.ask(Deploy(scene.account, "d", serving))
    with pytest.raises(Missing):
        scene.ask(Deploy(scene.account, "d", Serving("unknown")))


def test_a_key_is_revoked_by_its_owner_only(scene: Scene):
    scene.ask(CreateKey(scene.account, "ci", "h" * 64))
    with pytest.raises(Missing):
        scene.ask(RevokeKey(scene.play.account(), "key-1"))
    scene.ask(RevokeKey(scene.account, "ci"))
    assert scene.tables.keys == {}


@pytest.mark.parametrize(("patterns", "allowed"), [((), True), (("m*",), True), (("x", "m"), True), (("x*",), False)])
def test_patterns_say_which_models_a_key_may_ask(patterns: tuple[str, ...], allowed: bool):
    assert allows(patterns, "m") is allowed


def test_a_window_of_usage_counts_once_however_often_it_is_told(scene: Scene):
    scene.ask(CreateKey(scene.account, "ci", "h" * 64))
    row = UsageRow("key-1", scene.account, "m", Used(1, 0, 10, 5))
    for number in (1, 1, 2, 1):
        scene.ask(report(number=number, rows=[row]))
    assert scene.tables.keys["key-1"].used == Used(2, 0, 20, 10)
    assert scene.tables.used[scene.account] == Used(2, 0, 20, 10)


def test_a_line_is_committed_once(scene: Scene):
    batch(scene)
    scene.ask(commit(0, 4, used=Used(4, 0, 40, 4)))
    for again in (commit(0, 4), commit(3, 5)):
        with pytest.raises(Conflict, match="done already"):
            scene.ask(again)
    scene.ask(commit(6, 10))
    scene.ask(commit(4, 6))
    assert scene.tables.batches["batch_1"].done == ((0, 10),)
    assert scene.tables.used[scene.account].prompt_tokens == 40


def test_only_the_gateway_that_has_a_batch_commits_its_lines(scene: Scene):
    batch(scene)
    scene.ask(ClaimBatch("batch_1", "another"))
    with pytest.raises(Conflict, match="another gateway"):
        scene.ask(commit(0, 1))
    scene.ask(commit(0, 1, "another"))


def test_lines_that_do_not_add_up_are_refused(scene: Scene):
    batch(scene)
    for wrong in (commit(8, 12), CommitLines("batch_1", "me", ((0, 2),), 1, 0, DIGEST), commit(0, 0)):
        with pytest.raises(Refused, match="do not add up"):
            scene.ask(wrong)


def test_a_batch_ends_when_every_line_is_done_and_not_before(scene: Scene):
    batch(scene)
    scene.ask(commit(0, 9))
    with pytest.raises(Conflict, match="1 lines to do"):
        scene.ask(EndBatch("batch_1", "me"))
    scene.ask(commit(9, 10))
    scene.ask(EndBatch("batch_1", "me"))
    ended = scene.tables.batches["batch_1"]
    assert ended.state is BatchState.COMPLETED
    assert scene.tables.files[ended.output_file].parts == (DIGEST, DIGEST)
    assert ended.error_file == ""


def test_a_batch_that_was_cancelled_or_has_expired_ends_as_such_with_what_it_has(scene: Scene):
    batch(scene)
    scene.ask(commit(0, 2))
    scene.ask(CancelBatch(scene.account, "batch_1"))
    scene.ask(EndBatch("batch_1", "me"))
    assert scene.tables.batches["batch_1"].state is BatchState.CANCELLED
    assert scene.tables.batches["batch_1"].output_file
    scene.ask(CreateBatch(scene.account, "batch_2", "", "/v1/chat/completions", "file-1", window_s=5))
    scene.ask(ClaimBatch("batch_2", "me"))
    scene.ask(CheckBatch("batch_2", "me", 1))
    scene.later(5)
    scene.ask(CommitLines("batch_2", "me", ((0, 1),), 0, 1, None, DIGEST, (0, 1), Used(), 1))
    scene.ask(EndBatch("batch_2", "me"))
    assert scene.tables.batches["batch_2"].state is BatchState.EXPIRED


def test_a_bad_file_fails_the_batch_that_was_made(scene: Scene):
    scene.ask(AddFile(scene.account, "file-1", "in", "batch", 1, (DIGEST,)))
    scene.ask(CreateBatch(scene.account, "batch_1", "", "/v1/chat/completions", "file-1"))
    scene.ask(ClaimBatch("batch_1", "me"))
    scene.ask(CheckBatch("batch_1", "me", 0, (Mistake("empty_file", 0, "it is empty"),)))
    assert scene.tables.batches["batch_1"].state is BatchState.FAILED
    with pytest.raises(Conflict):
        scene.ask(CancelBatch(scene.account, "batch_1"))


def test_the_input_of_a_batch_that_runs_cannot_be_deleted(scene: Scene):
    batch(scene)
    with pytest.raises(Conflict):
        scene.ask(RemoveFile(scene.account, "file-1"))
    with pytest.raises(Missing):
        scene.ask(RemoveFile(scene.play.account(), "file-1"))
