"""How events and snapshots are written, and how old ones are read for ever.

An event's kind in the log is its name and version: `TaskPlaced/1`. When the fields of an event change, its version in
`VERSIONS` grows and a function in `LIFTS` turns a document of the old version into one of the next. Nothing else in the
system knows that old versions exist. tests/unit/head/test_codec.py replays a log of every release.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import msgspec

from mycelium.accounts.events import AccountEvent
from mycelium.base.errors import Refused
from mycelium.head.state import State
from mycelium.inference.events import InferenceEvent
from mycelium.jobs.events import JobEvent
from mycelium.jobs.model import Job, Site
from mycelium.nodes.events import NodeEvent

Event = NodeEvent | AccountEvent | JobEvent | InferenceEvent

KINDS: dict[str, type] = {kind.__name__: kind for kind in get_args(Event)}
VERSIONS: dict[str, int] = dict.fromkeys(KINDS, 1)
LIFTS: dict[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]] = {}

SNAPSHOT_VERSION = 1

_encoder = msgspec.json.Encoder()
_decoders = {name: msgspec.json.Decoder(kind) for name, kind in KINDS.items()}
_site = msgspec.json.Decoder(State)
_job = msgspec.json.Decoder(Job)


def encode(event: Event) -> tuple[str, bytes]:
    """The kind and the data of an event, as the log keeps them."""
    name = type(event).__name__
    return f"{name}/{VERSIONS[name]}", _encoder.encode(event)


def decode(kind: str, data: bytes) -> Event:
    """The event, lifted to today's version. Errors: `Refused` for a kind or version that this program does not know."""
    name, _, version = kind.partition("/")
    if name not in KINDS or not version.isdigit() or not 1 <= int(version) <= VERSIONS[name]:
        raise Refused(
            f"the log holds an event of kind {kind!r}", hint="it was written by a newer Mycelium: use that one"
        )
    if int(version) == VERSIONS[name]:
        return _decoders[name].decode(data)
    document = msgspec.json.decode(data)
    for old in range(int(version), VERSIONS[name]):
        document = LIFTS[name, old](document)
    return msgspec.convert(document, KINDS[name])


def encode_site(site: Site) -> bytes:
    return _encoder.encode(site)


def decode_site(data: bytes, version: int) -> State | None:
    """The state of a snapshot; None for another version's: the events are the truth, and the snapshot is made anew."""
    return _site.decode(data) if version == SNAPSHOT_VERSION else None


def encode_job(job: Job) -> bytes:
    return _encoder.encode(job)


def decode_job(data: bytes) -> Job:
    return _job.decode(data)
