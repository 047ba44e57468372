"""How events are written, and that what was once written is read for ever."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mycelium.base.errors import Refused
from mycelium.base.ids import JobId, NodeId
from mycelium.head.codec import SNAPSHOT_VERSION, Codec, decode_job
from mycelium.head.domains import mounted
from mycelium.head.replay import replay
from mycelium.jobs.events import JobArchived
from mycelium.log import Entry
from mycelium.log.entry import START, follow
from mycelium.nodes.events import NodeBack
from tests.unit.head import served
from tests.unit.head.facts import FIRST_KINDS, facts_of
from tests.unit.head.played import Played, array, request

CODEC = Codec(mounted())
LOGS = sorted((Path(__file__).parent / "data").glob("log-*.jsonl"))
SERVED = sorted((Path(__file__).parent / "data").glob("served-*.jsonl"))  # of sites that serve models


def entries_of(path: Path) -> list[Entry]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        Entry(
            row["seq"],
            row["time_ns"],
            row["kind"],
            json.dumps(row["data"], separators=(",", ":"), ensure_ascii=False).encode(),
            bytes.fromhex(row["hash"]),
        )
        for row in rows
    ]


def test_there_is_a_log_of_every_release() -> None:
    assert [path.stem for path in LOGS] == ["log-0.1"]
    assert [path.stem for path in SERVED] == ["served-0.1"]


@pytest.mark.parametrize("path", LOGS, ids=[path.stem for path in LOGS])
def test_the_log_of_a_release_leads_to_the_same_site_for_ever(path: Path) -> None:
    entries = entries_of(path)
    half, whole = replay(entries[: len(entries) // 2]), replay(entries)
    expected = json.loads(path.with_suffix(".facts.json").read_text())
    assert json.loads(json.dumps({"half": facts_of(half), "whole": facts_of(whole)})) == expected


@pytest.mark.parametrize("path", SERVED, ids=[path.stem for path in SERVED])
def test_the_log_of_a_release_leads_to_the_same_models_keys_and_batches_for_ever(path: Path) -> None:
    entries = entries_of(path)
    half, whole = replay(entries[: len(entries) // 2]), replay(entries)
    expected = json.loads(path.with_suffix(".facts.json").read_text())
    found = {"half": served.facts_of(half), "whole": served.facts_of(whole)}
    assert json.loads(json.dumps(found)) == expected


@pytest.mark.parametrize("path", [*LOGS, *SERVED], ids=[path.stem for path in [*LOGS, *SERVED]])
def test_the_chain_of_a_release_still_holds(path: Path) -> None:
    entries = entries_of(path)
    assert list(follow(entries, START)) == entries


def test_the_log_of_the_first_release_holds_every_kind_of_event_that_it_had() -> None:
    kinds = {entry.kind for entry in entries_of(LOGS[0])}
    assert kinds == {f"{name}/1" for name in FIRST_KINDS}
    assert set(CODEC.kinds) >= FIRST_KINDS
    assert {entry.kind for entry in entries_of(SERVED[0])} >= {f"{name}/1" for name in served.FIRST_KINDS}


def test_a_kind_that_is_not_known_is_refused() -> None:
    for kind in ("JobPainted/1", "JobArchived/2", "JobArchived/0", "JobArchived", "JobArchived/x", "/1", ""):
        with pytest.raises(Refused, match="the log holds an event of kind"):
            CODEC.decode(kind, b"{}")


def test_an_event_carries_its_version() -> None:
    assert CODEC.encode(NodeBack(NodeId("node-1"))) == ("NodeBack/1", b'{"node":"node-1"}')


def test_an_old_version_is_lifted_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if `job` had been called `id` in version 1, and `name` in version 2."""
    kind = mounted().kinds[JobArchived]
    lifts = (lambda old: {"name": old["id"]}, lambda old: {"job": old["name"]})
    monkeypatch.setitem(mounted().kinds, JobArchived, kind._replace(lifts=lifts))
    codec = Codec(mounted())
    assert codec.encode(JobArchived(JobId("job-7")))[0] == "JobArchived/3"
    for version, field in ((1, "id"), (2, "name"), (3, "job")):
        event = codec.decode(f"JobArchived/{version}", json.dumps({field: "job-7"}).encode())
        assert event == JobArchived(JobId("job-7"))


def test_a_site_is_read_as_it_was_written() -> None:
    site = Played()
    site.submit(request(array=array(3)), request(nodes=2))
    site.exited("node-1", "job-1.0-a1-r0")
    written = CODEC.encode_state(site.core.site)
    assert CODEC.decode_state(written, SNAPSHOT_VERSION) == site.core.site
    assert decode_job(CODEC.encode_record(site.job())) == site.job()
