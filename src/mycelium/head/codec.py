"""How events, snapshots and archived records are written, and how old ones are read for ever.

An event's kind in the log is its name and version: `TaskPlaced/1`. When the fields of an event change, a function is
added to the `lifts` of its `EventKind`, which turns a document of the old version into one of the next. A snapshot says
the fingerprint of each domain's schema: tables of another schema are lifted by its domain, or the state is built anew
from the events. Nothing else in the system knows that old versions exist.
"""

from __future__ import annotations

from typing import Any

import msgspec

from mycelium.base.domain import EventKind
from mycelium.base.errors import Refused
from mycelium.head.fingerprint import FIRST_SCHEMAS, fingerprint
from mycelium.head.mount import Mounted
from mycelium.jobs.model import Job

SNAPSHOT_VERSION = 2  # of the envelope; 1 had none: it held the tables of 0.1 alone

_encoder = msgspec.json.Encoder()
_job = msgspec.json.Decoder(Job)


class Envelope(msgspec.Struct):
    schemas: dict[str, str]
    tables: Any


class _Sealed(msgspec.Struct):
    schemas: dict[str, str]
    tables: dict[str, msgspec.Raw]


class Unreadable(Exception):
    """A snapshot's table has a schema that nobody here can lift: the events must be replayed.

    `absent`: it is not there at all, because its domain was mounted later.
    """

    def __init__(self, table: str, *, absent: bool = False) -> None:
        super().__init__(table)
        self.table = table
        self.absent = absent


class Codec:
    """For the domains that are mounted."""

    def __init__(self, mounted: Mounted) -> None:
        self._mounted = mounted
        self.kinds: dict[str, EventKind] = {kind.__name__: known for kind, known in mounted.kinds.items()}
        self._written = {kind.type: f"{name}/{kind.version}" for name, kind in self.kinds.items()}
        self._decoders: dict[str, msgspec.json.Decoder[Any]] = {
            name: msgspec.json.Decoder(kind.type) for name, kind in self.kinds.items()
        }
        self._tables = {domain.name: msgspec.json.Decoder(domain.tables) for domain in mounted.domains}
        self.schemas = {domain.name: fingerprint(domain.tables) for domain in mounted.domains}

    def encode(self, event: Any) -> tuple[str, bytes]:
        """The kind and the data of an event, as the log keeps them."""
        return self._written[type(event)], _encoder.encode(event)

    def decode(self, kind: str, data: bytes) -> Any:
        """The event, lifted to today's version. Errors: `Refused` for a kind or version that this program lacks."""
        name, _, version = kind.partition("/")
        known = self.kinds.get(name)
        if known is None or not version.isdigit() or not 1 <= int(version) <= known.version:
            raise Refused(
                f"the log holds an event of kind {kind!r}", hint="it was written by a newer Mycelium: use that one"
            )
        if int(version) == known.version:
            return self._decoders[name].decode(data)
        document = msgspec.json.decode(data)
        for lift in known.lifts[int(version) - 1 :]:
            document = lift(document)
        return self._decoders[name].decode(_encoder.encode(document))

    def about(self, event: Any) -> tuple[str, ...]:
        """Whom an event concerns, the first of them first."""
        found: list[str] = []
        for name in self._mounted.kinds[type(event)].about:
            value = getattr(event, name)
            found += [value] if isinstance(value, str) else value
        return tuple(dict.fromkeys(one for one in found if one))

    def encode_state(self, state: Any) -> bytes:
        return _encoder.encode(Envelope(self.schemas, state))

    def decode_state(self, data: bytes, version: int, *, absent_is_empty: bool = False) -> Any:
        """The state of a snapshot. Errors: `Unreadable`, with the table for which the events must be replayed."""
        if version == 1:
            sealed = _Sealed(FIRST_SCHEMAS, msgspec.json.decode(data, type=dict[str, msgspec.Raw]))
        elif version == SNAPSHOT_VERSION:
            sealed = msgspec.json.decode(data, type=_Sealed)
        else:
            raise Unreadable("of a newer Mycelium")
        for table in sealed.tables:
            if table not in self._tables:
                raise Unreadable(table)
        absent = [domain.name for domain in self._mounted.domains if domain.name not in sealed.tables]
        if absent and not absent_is_empty:
            raise Unreadable(absent[0], absent=True)
        there = [domain for domain in self._mounted.domains if domain.name in sealed.tables]
        return self._mounted.State(**{domain.name: self._table(domain, sealed) for domain in there})

    def _table(self, domain: Any, sealed: _Sealed) -> Any:
        name = domain.name
        schema = sealed.schemas.get(name, "")
        if schema == self.schemas[name]:
            return self._tables[name].decode(sealed.tables[name])
        lift = domain.lifts.get(schema)
        if lift is None:
            raise Unreadable(name)
        return self._tables[name].decode(_encoder.encode(lift(msgspec.json.decode(sealed.tables[name]))))

    def encode_record(self, record: Any) -> bytes:
        """Of what leaves the state for the archive."""
        return _encoder.encode(record)


def decode_job(data: bytes) -> Job:
    """From the archive."""
    return _job.decode(data)
