"""Values as a file (`.pmv`): what goes into a program on a site, and what comes back.

Layout, numbers big-endian: 8 bytes magic; u32 length and the literal, as the text form writes constants; u32 count of
the bodies that it names, each with a u64 length before it; 32 bytes BLAKE3 of everything before.
Never: pickles, runs anything, or opens files.
"""

from __future__ import annotations

import struct
from typing import Any

import blake3

from mycelium.base.errors import Refused
from mycelium.base.limits import CONTAINER_BYTES_MAX, VALUES_BODIES_MAX
from mycelium.polymer.program.words import LineReader, literal

MAGIC = b"\x89PMV\r\n\x1a\n"
_LENGTH = struct.Struct(">I")
_SIZE = struct.Struct(">Q")
_DIGEST_BYTES = 32


def pack(value: Any) -> bytes:
    """Errors: `Refused` for what is neither plain (numbers, text, bytes, collections, records) nor an array."""
    bodies: dict[str, bytes] = {}
    try:
        text = literal(value, bodies).encode()
    except Refused as refused:
        raise Refused(
            refused.message.replace("a constant", "a value").replace("has no text", "cannot travel"),
            hint="what travels is plain values (numbers, text, bytes, lists, tuples, dicts), records and arrays",
        ) from None
    if len(bodies) > VALUES_BODIES_MAX:
        raise Refused(f"the value holds {len(bodies)} arrays; at most {VALUES_BODIES_MAX}")
    parts = [MAGIC, _LENGTH.pack(len(text)), text, _LENGTH.pack(len(bodies))]
    for digest in sorted(bodies):
        parts += [_SIZE.pack(len(bodies[digest])), bodies[digest]]
    size = sum(map(len, parts)) + _DIGEST_BYTES
    if size > CONTAINER_BYTES_MAX:
        raise Refused(f"the value has {size} bytes; at most {CONTAINER_BYTES_MAX} travel to or from a site")
    body = b"".join(parts)
    return body + blake3.blake3(body).digest()


def read(data: bytes) -> Any:
    """The value in `data`; arrays are read-only.

    Errors: `Refused` with what is wrong. Cost: memory of the order of the file's own size.
    """
    if len(data) > CONTAINER_BYTES_MAX:
        raise Refused(f"the file of values has {len(data)} bytes; at most {CONTAINER_BYTES_MAX}")
    if data[: len(MAGIC)] != MAGIC:
        raise Refused("this is not a file of values", hint="`myc polymer run --site` makes one")
    body, digest = memoryview(data)[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if len(body) < len(MAGIC) or blake3.blake3(body).digest() != digest:
        raise Refused("the file of values was altered or cut short: its checksum does not match")
    text, at = _take(body, len(MAGIC), _LENGTH)
    count = _number(body, at, _LENGTH)
    at += _LENGTH.size
    if count > VALUES_BODIES_MAX:
        raise Refused(f"the file of values holds {count} arrays; at most {VALUES_BODIES_MAX}")
    bodies: dict[str, bytes] = {}
    for _ in range(count):
        found, at = _take(body, at, _SIZE)
        bodies[blake3.blake3(found).hexdigest()] = bytes(found)
    if at != len(body):
        raise Refused(f"the file of values holds {len(body) - at} bytes too many")
    try:
        reader = LineReader(bytes(text).decode(), 1, bodies)
    except UnicodeDecodeError:
        raise Refused("the file of values is not UTF-8 text") from None
    value = reader.literal()
    reader.end()
    return value


def _number(body: memoryview, at: int, kind: struct.Struct) -> int:
    if at + kind.size > len(body):
        raise Refused("the file of values ends too early")
    (number,) = kind.unpack_from(body, at)
    return number


def _take(body: memoryview, at: int, kind: struct.Struct) -> tuple[memoryview, int]:
    size = _number(body, at, kind)
    at += kind.size
    if size > len(body) - at:
        raise Refused(f"the file of values claims {size} bytes; {len(body) - at} are left")
    return body[at : at + size], at + size
