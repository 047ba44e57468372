"""Events outlive the program that wrote them: each is read back as it was, and can be said."""

from __future__ import annotations

from typing import get_args

from mycelium.head.codec import SNAPSHOT_VERSION, Codec
from mycelium.head.domains import mounted
from mycelium.inference.apply import apply
from mycelium.inference.commands import (
    AddFile,
    CancelBatch,
    CheckBatch,
    ClaimBatch,
    CommitLines,
    CreateBatch,
    CreateKey,
    EndBatch,
    RemoveFile,
    RemoveModel,
    RevokeKey,
    Undeploy,
)
from mycelium.inference.events import InferenceEvent, UsageRow
from mycelium.inference.model import Inference, Used
from mycelium.inference.story import say
from tests.unit.inference.scene import DIGEST, Scene, report

CODEC = Codec(mounted())


class Recorded(Scene):
    """A scene that keeps every event of inference, whoever decided it."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[InferenceEvent, int]] = []

    def happened(self, event: InferenceEvent) -> None:
        super().happened(event)
        self.events.append((event, self.now_ns))


def eventful() -> Recorded:
    scene = Recorded()
    scene.deploy(0, 2)
    scene.load(waiting=1)
    scene.step()
    scene.starts(scene.replicas()[0])
    scene.ask(CreateKey(scene.account, "ci", "h" * 64, 1, 2, ("m*",)))
    scene.ask(report(number=1, rows=[UsageRow("key-1", scene.account, "m", Used(1, 0, 2, 3, 4, 5))]))
    for number in (1, 2):
        scene.ask(AddFile(scene.account, f"file-{number}", "in", "batch", 1, (DIGEST,)))
    scene.ask(CreateBatch(scene.account, "batch_1", "key-1", "/v1/chat/completions", "file-1", {"a": "b"}))
    scene.ask(ClaimBatch("batch_1", "me"))
    scene.ask(CheckBatch("batch_1", "me", 3))
    scene.ask(CommitLines("batch_1", "me", ((0, 3),), 2, 1, DIGEST, DIGEST, (1, 2), Used(3)))
    scene.ask(EndBatch("batch_1", "me"))
    scene.ask(CreateBatch(scene.account, "batch_2", "", "/v1/chat/completions", "file-2"))
    scene.ask(CancelBatch(scene.account, "batch_2"))
    scene.ask(RemoveFile(scene.account, "file-1"))
    scene.ask(Undeploy(scene.account, "m"))
    for _ in range(5):
        scene.step()
        scene.later(200)
        for replica in scene.replicas():
            if scene.play.job(replica.job).cancelled:
                scene.play.finish(replica.job)
    scene.ask(RemoveModel(scene.account, "m"))
    scene.ask(RevokeKey(scene.account, "ci"))
    return scene


def test_the_story_has_every_kind_of_event_and_a_sentence_for_each():
    events = [event for event, _ in eventful().events]
    assert {type(event) for event in events} == set(get_args(InferenceEvent))
    assert all(say(event) for event in events)


def test_what_was_written_is_read_back_as_it_was():
    for event, _ in eventful().events:
        assert CODEC.decode(*CODEC.encode(event)) == event


def test_replaying_the_events_gives_the_same_tables():
    scene, again = eventful(), Inference()
    for event, at_ns in scene.events:
        apply(again, CODEC.decode(*CODEC.encode(event)), at_ns)  # type: ignore[arg-type]
    assert again == scene.tables


def test_a_snapshot_holds_the_tables():
    scene = eventful()
    assert CODEC.decode_state(CODEC.encode_state(scene.state), SNAPSHOT_VERSION) == scene.state
