"""A snapshot is read as it was meant, or not at all: the state then comes from the events, or the start is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mycelium.base.domain import Domain
from mycelium.base.errors import Refused
from mycelium.head.codec import SNAPSHOT_VERSION, Codec, Unreadable
from mycelium.head.domains import DOMAINS, LOOKS, mounted
from mycelium.head.fingerprint import fingerprint
from mycelium.head.mount import Mounted, mount
from mycelium.head.replay import replay, restore
from mycelium.inference.events import ModelRemoved
from mycelium.jobs.model import JobState
from mycelium.log import MemoryLog
from tests.unit.head.played import Played, array, request
from tests.unit.head.test_codec import LOGS, SERVED, entries_of

HISTORIES = [*LOGS, *SERVED]


def log_of(path: Path) -> tuple[MemoryLog, int, bytes]:
    """The log of a release, and the snapshot that the release itself took half-way."""
    log, entries = MemoryLog(), entries_of(path)
    for entry in entries:
        log.append(entry.time_ns, [(entry.kind, entry.data)])
    return log, len(entries) // 2, path.with_suffix(".snapshot.json").read_bytes()


def with_domain(name: str, **changed: Any) -> Mounted:
    """Everything as it is, but one domain."""
    return mount([replace(domain, **changed) if domain.name == name else domain for domain in DOMAINS], LOOKS)


def pruned(log: MemoryLog, upto_seq: int, tmp_path: Path) -> None:
    log.export(tmp_path / "events", upto_seq)
    log.prune(upto_seq)


@pytest.mark.parametrize("path", HISTORIES, ids=[path.stem for path in HISTORIES])
def test_a_snapshot_of_a_release_says_what_its_events_say(path: Path) -> None:
    log, seq, data = log_of(path)
    assert Codec(mounted()).decode_state(data, 1) == replay(log.read(0, seq))


@pytest.mark.parametrize("path", HISTORIES, ids=[path.stem for path in HISTORIES])
def test_a_site_of_a_release_starts_from_its_snapshot_though_its_events_are_gone(path: Path, tmp_path: Path) -> None:
    log, seq, data = log_of(path)
    everything = replay(log.read())
    log.save_snapshot(seq, 1, data)
    log.save_snapshot(seq, 1, data)
    pruned(log, seq, tmp_path)
    assert restore(log) == (everything, seq)


def test_a_table_of_another_shape_that_nobody_lifts_is_built_from_the_events() -> None:
    log, seq, data = log_of(LOGS[0])
    log.save_snapshot(seq, 1, data)
    state, after = restore(log, with_domain("accounts", lifts={}))
    assert after == 0
    assert msgspec.to_builtins(state) == msgspec.to_builtins(replay(log.read()))


def test_where_the_events_are_gone_it_is_refused_and_the_table_is_named(tmp_path: Path) -> None:
    log, seq, data = log_of(LOGS[0])
    log.save_snapshot(seq, 1, data)
    log.save_snapshot(seq, 1, data)
    pruned(log, seq, tmp_path)
    with pytest.raises(Refused, match="'accounts' has a shape that this Mycelium cannot read"):
        restore(log, with_domain("accounts", lifts={}))


def test_a_lift_turns_an_old_table_into_todays() -> None:
    site = Played()
    written = site.core.codec.encode_state(site.core.site)
    document = msgspec.json.decode(written)
    document["schemas"]["accounts"] = "of another time"
    document["tables"]["accounts"]["number"] = document["tables"]["accounts"].pop("next_number")

    def lift(tables: dict[str, Any]) -> dict[str, Any]:
        return {**tables, "next_number": tables["number"]}

    house = with_domain("accounts", lifts={"of another time": lift})
    found = Codec(house).decode_state(msgspec.json.encode(document), SNAPSHOT_VERSION)
    assert found.accounts == site.core.site.accounts


def test_a_job_that_0_1_called_held_is_blocked() -> None:
    _, _, data = log_of(LOGS[0])
    written = json.loads(data)["jobs"]["by_id"]
    held = {name for name, job in written.items() if job["state"] == "held"}
    found = Codec(mounted()).decode_state(data, 1).jobs.by_id
    assert held
    assert {job.id for job in found.values() if job.state is JobState.BLOCKED} == held


def test_a_snapshot_with_a_table_that_no_domain_has_is_not_read() -> None:
    site = Played()
    written = site.core.codec.encode_state(site.core.site)
    fewer = mount([domain for domain in DOMAINS if domain.name != "inference"])
    with pytest.raises(Unreadable, match="inference"):
        Codec(fewer).decode_state(written, SNAPSHOT_VERSION)


def test_a_domain_that_is_mounted_later_begins_with_nothing_or_with_its_events() -> None:
    site = Played()
    site.submit(request(array=array(3)))
    fewer = mount([domain for domain in DOMAINS if domain.name != "inference"])
    early = Codec(fewer).encode_state(fewer.State(*(getattr(site.core.site, d.name) for d in fewer.domains)))
    with pytest.raises(Unreadable, match="inference") as caught:
        Codec(mounted()).decode_state(early, SNAPSHOT_VERSION)
    assert caught.value.absent
    assert Codec(mounted()).decode_state(early, SNAPSHOT_VERSION, absent_is_empty=True) == site.core.site


def test_a_snapshot_of_a_newer_mycelium_is_not_read() -> None:
    with pytest.raises(Unreadable, match="newer"):
        Codec(mounted()).decode_state(b"{}", SNAPSHOT_VERSION + 1)


def test_an_event_that_no_domain_knows_raises() -> None:
    house = mount([domain for domain in DOMAINS if domain.name != "inference"])
    with pytest.raises(TypeError, match="no domain knows the event ModelRemoved"):
        house.apply(house.view(house.state()), ModelRemoved("m", "ada"), 1)


class Colour(msgspec.Struct):
    name: str
    mixed_of: list[Colour] = []


class Paint(msgspec.Struct):
    mixed_of: list[Paint] = []
    name: str = "white"


class Varnish(msgspec.Struct):
    name: str
    mixed_of: list[Varnish] = []
    coats: int = 1


def test_a_shape_is_its_fields_and_their_types_whatever_they_are_called() -> None:
    assert fingerprint(Colour) == fingerprint(Paint) != fingerprint(Varnish)


def test_every_table_has_a_shape_of_its_own() -> None:
    domains: list[Domain] = list(DOMAINS)
    assert len({fingerprint(domain.tables) for domain in domains}) == len(domains)
