"""Two ends of a connection show each other that they know one key, which itself is never sent.

| message | from | holds |
|---|---|---|
| hello | who knocks | `myc` and a version, a fresh number, what is asked for |
| answer | the door | its own fresh number, its proof |
| proof | who knocks | its proof; whatever it has to say may follow at once |

A proof is a keyed hash over both fresh numbers, what is asked for, the purpose of the door and the side that proves. So
it is worth nothing in another connection, at another door, for something else, or sent back to where it came from.
From the same come two session keys, one for each way, for who wants to sign what follows.

Each side is a generator, so that the order of the messages stands here once: it yields the bytes to be sent, or how
many are to be read; `base/meeting.py` does both. Never: does I/O, or makes a fresh number by itself.
Source: three-pass mutual authentication of ISO/IEC 9798-4, with HMAC-SHA256 (RFC 2104).
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Generator

from msgspec import Struct

from mycelium.base.errors import Denied, Refused
from mycelium.base.limits import HANDSHAKE_ASKED_BYTES_MAX

VERSION = 1
FRESH_BYTES = 32
PROOF_BYTES = 32
_HELLO = struct.Struct(f">3sB{FRESH_BYTES}sH")
_MAGIC = b"myc"


class Session(Struct, frozen=True):
    """What both ends have when each has shown that it knows the key."""

    asked: bytes  # by who knocked
    key_out: bytes  # for what this end sends
    key_in: bytes


Handshake = Generator[bytes | int, bytes, Session]


def knock(key: bytes, purpose: bytes, fresh: bytes, asked: bytes = b"") -> Handshake:
    """The side that dials. Errors: `Denied`, `Refused`."""
    if len(asked) > HANDSHAKE_ASKED_BYTES_MAX:
        raise Refused(f"what is asked for has {len(asked)} bytes; at most {HANDSHAKE_ASKED_BYTES_MAX} are read")
    yield _HELLO.pack(_MAGIC, VERSION, _checked(fresh), len(asked)) + asked
    theirs = yield FRESH_BYTES
    proof = yield PROOF_BYTES
    said = (purpose, asked, fresh, theirs)
    _check(proof, _hash(key, b"proof of the door", *said))
    yield _hash(key, b"proof of who knocks", *said)
    return Session(asked, _hash(key, b"key to the door", *said), _hash(key, b"key from the door", *said))


def answer(key: bytes, purpose: bytes, fresh: bytes) -> Handshake:
    """The side that listens. Errors: `Denied`, `Refused`."""
    magic, version, theirs, size_bytes = _HELLO.unpack((yield _HELLO.size))
    if magic != _MAGIC:
        raise Refused("this is not the hello of a machine")
    if version != VERSION:
        raise Refused(f"the other end speaks version {version} of the handshake; here it is {VERSION}")
    if size_bytes > HANDSHAKE_ASKED_BYTES_MAX:
        raise Refused(f"what is asked for has {size_bytes} bytes; at most {HANDSHAKE_ASKED_BYTES_MAX} are read")
    asked = (yield size_bytes) if size_bytes else b""
    said = (purpose, asked, theirs, _checked(fresh))
    yield fresh + _hash(key, b"proof of the door", *said)
    _check((yield PROOF_BYTES), _hash(key, b"proof of who knocks", *said))
    return Session(asked, _hash(key, b"key from the door", *said), _hash(key, b"key to the door", *said))


def _checked(fresh: bytes) -> bytes:
    assert len(fresh) == FRESH_BYTES, "a number that is too short is not fresh for long"
    return fresh


def _check(shown: bytes, right: bytes) -> None:
    if not hmac.compare_digest(shown, right):
        raise Denied("the proof of the other end is not made with our key")


def _hash(key: bytes, what: bytes, *said: bytes) -> bytes:
    """Each part with its length, so that no two dialogues are hashed alike."""
    if not key:
        raise Denied("no key is known here yet")
    parts = (bytes([VERSION]), what, *said)
    return hmac.digest(key, b"".join(len(part).to_bytes(4, "big") + part for part in parts), "sha256")
