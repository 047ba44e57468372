"""A site that serves models, on which everything happens that can; and what it says of them, in words that outlive the
shape of its records.

`python -m tests.unit.head.served 0.1` writes the log that every later release must still read. Run once for a release,
never again for the same one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mycelium.base.ids import Digest, JobId
from mycelium.base.units import S_NS
from mycelium.head.replay import replay
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
    DeploymentQueue,
    EndBatch,
    RemoveFile,
    RemoveModel,
    Report,
    RevokeKey,
    SeenReplica,
    Undeploy,
)
from mycelium.inference.events import UsageRow
from mycelium.inference.model import Mistake, ModelKind, Serving, Used
from mycelium.nodes.model import Devices
from tests.unit.head.played import ADA, BAD, ROOT, Played

DATA = Path(__file__).parent / "data"
# The kinds of event of release 0.1 that models, keys, files and batches have.
MODELS = "ModelAdded ModelRemoved DeploymentSet DeploymentLeaving DeploymentGone TargetChanged"
REPLICAS = "ReplicaStarted ReplicaReady ReplicaDraining ReplicaGone KeyCreated KeyRevoked UsageRecorded"
BATCHES = "FileAdded FileRemoved BatchCreated BatchClaimed BatchChecked LinesDone BatchTurned"
FIRST_KINDS = frozenset(f"{MODELS} {REPLICAS} {BATCHES}".split())
ONE, TWO = Digest("1" * 64), Digest("2" * 64)
CHAT = "/v1/chat/completions"


class Served(Played):
    """One node has the backend. `boot` is the gateway's life."""

    def __init__(self) -> None:
        super().__init__(1)
        self.hello("node-1", "b1", 4, (), **{"llama.cpp": "1"})

    def report(self, waiting: int = 0, *seen: SeenReplica, **usage: Any) -> None:
        self.do(Report("boot", "http://gateway", (DeploymentQueue("m", waiting),), seen, **usage))

    def hours(self, seconds: int, *running: str) -> None:
        for _ in range(seconds):
            self.beats(1, node_1=running)
            self.report()


def play() -> Served:
    site = Served()
    _models_and_keys(site)
    _replicas(site)
    _batches(site)
    return site


def _models_and_keys(site: Served) -> None:
    site.do(
        AddModel(ADA, "small", ONE, 100, ModelKind.CHAT, "pypi://x/1"),
        AddModel(ROOT, "other", TWO, 5, ModelKind.CHAT, "f"),
    )
    site.do(RemoveModel(ROOT, "other"))
    site.do(CreateKey(ADA, "ci", "a" * 64, 60, 20_000, ("sm*",)), CreateKey(ADA, "old", "b" * 64))
    site.do(RevokeKey(ADA, "old"))
    site.do(Deploy(ROOT, "far", Serving(upstream="http://far/v1", parallel=9, replicas_min=0)))
    site.do(Undeploy(ROOT, "far"))
    site.later(1)


def _replicas(site: Served) -> None:
    """One wakes, answers, dies, and is followed by another one, which sleeps at last."""
    serving = Serving("small", replicas_min=0, replicas_max=2, needs=Devices(1000, 1 << 20))
    site.do(Deploy(ADA, "m", serving))
    site.report(waiting=1)
    site.later(1)
    site.started("node-1", "job-1-a1-r0")
    site.report(1, SeenReplica(JobId("job-1"), 1, True, 1, 0, 9.5, 120, 1, 7))
    row = UsageRow("key-1", ADA, "m", Used(2, 1, 30, 12, 240, 2))
    site.report(number=1, from_ns=site.now_ns, to_ns=site.now_ns + S_NS, rows=(row,))
    site.exited("node-1", "job-1-a1-r0", BAD)
    site.later(1)
    site.later(3)
    site.started("node-1", "job-2-a1-r0")
    site.report(0, SeenReplica(JobId("job-2"), 1, True))
    site.hours(400, "job-2-a1-r0")


def _batches(site: Served) -> None:
    """One is completed, one cancelled, one was never good."""
    site.do(AddFile(ADA, "file-1", "a.jsonl", "batch", 90, (ONE, TWO)), AddFile(ADA, "file-2", "b", "batch", 1, (ONE,)))
    site.do(RemoveFile(ADA, "file-2"))
    for batch in ("batch_a", "batch_b", "batch_c"):
        site.do(CreateBatch(ADA, batch, "key-1", CHAT, "file-1", {"for": "test"}, 3600), ClaimBatch(batch, "boot"))
    site.do(CheckBatch("batch_a", "boot", 3, (), "m"), CheckBatch("batch_b", "boot", 2, (), "m"))
    site.do(CheckBatch("batch_c", "boot", 0, (Mistake("invalid_json_line", 2, "no JSON", "line"),)))
    used = Used(2, 0, 20, 10)
    site.do(CommitLines("batch_a", "boot", ((0, 1), (2, 3)), 2, 0, ONE, None, (50, 0), used))
    site.do(CommitLines("batch_a", "boot", ((1, 2),), 0, 1, None, TWO, (0, 20), Used(1, 1)))
    site.do(EndBatch("batch_a", "boot"), CancelBatch(ADA, "batch_b"))
    site.do(CommitLines("batch_b", "boot", ((0, 2),), 0, 2, None, TWO, (0, 9), Used(), 2), EndBatch("batch_b", "boot"))


def facts_of(state: Any) -> dict[str, Any]:
    """Every fact that a person could have seen, by name."""
    tables = state.inference

    def used(one: Used) -> list[int]:
        return [one.requests, one.failed, one.prompt_tokens, one.completion_tokens, one.ttft_ms, one.streams]

    return {
        "models": {
            name: [model.digest, model.size_bytes, model.kind, model.source, model.by, model.account]
            for name, model in tables.models.items()
        },
        "deployments": {
            name: [one.account, one.serving.model, one.serving.upstream, one.target, one.failures, one.message]
            for name, one in tables.deployments.items()
        },
        "replicas": {job: [one.deployment, one.state, one.ready_ns, one.why] for job, one in tables.replicas.items()},
        "keys": {
            name: [key.name, key.account, key.hash, key.rpm, key.tpm, list(key.models), used(key.used)]
            for name, key in tables.keys.items()
        },
        "files": {
            name: [file.account, file.name, file.purpose, file.size_bytes, list(file.parts)]
            for name, file in tables.files.items()
        },
        "batches": {
            name: [
                one.account, one.key, one.endpoint, one.input_file, one.state, one.model, one.metadata, one.total,
                one.completed, one.failed, one.unrun, [list(span) for span in one.done], one.output_file,
                one.error_file, [m.code for m in one.mistakes], used(one.used), one.times_ns,
            ]
            for name, one in tables.batches.items()
        },
        "used": {account: used(one) for account, one in tables.used.items()},
    }  # fmt: skip


def write(release: str) -> Path:
    site = play()
    lines = [
        json.dumps(
            {"seq": e.seq, "time_ns": e.time_ns, "kind": e.kind, "data": json.loads(e.data), "hash": e.hash.hex()}
        )
        for e in site.log.read(0)
    ]
    assert {entry.kind.partition("/")[0] for entry in site.log.read(0)} >= FIRST_KINDS
    path = DATA / f"served-{release}.jsonl"
    path.write_text("\n".join(lines) + "\n")
    half = replay(site.log.read(0, site.log.last_seq // 2))
    facts = {"half": facts_of(half), "whole": facts_of(site.core.site)}
    path.with_suffix(".facts.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    return path


if __name__ == "__main__":
    print(write(sys.argv[1]))
