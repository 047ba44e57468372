"""What porters are asked and what they answer: MessagePack in frames, then plain bytes.

After `Want`, the porter sends for each object eight bytes (how many follow, or -1 when it is not here) and the bytes.
After `Take`, the asker sends for each object its digest, eight bytes and the bytes; the porter answers when they are
durable.
"""

from __future__ import annotations

import hmac
import socket
import ssl
import struct
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from mycelium.base import files, framing
from mycelium.base.errors import Refused, Unavailable
from mycelium.base.ids import Digest

SIZE = struct.Struct("!q")
CONNECT_S = 5.0
SILENCE_S = 20.0  # no byte for this long: the other end is gone
PIECE_BYTES = 1 << 20

T = TypeVar("T")


class Want(Struct, frozen=True, tag="want"):
    """Send these objects, each from an offset on."""

    objects: list[tuple[Digest, int]]


class Lack(Struct, frozen=True, tag="lack"):
    """Which of these are not with you? Answered with a list."""

    digests: list[Digest]


class Take(Struct, frozen=True, tag="take"):
    """So many objects follow."""

    count: int


class Have(Struct, frozen=True, tag="have"):
    """The porter at this address has these as well."""

    address: str
    digests: list[Digest]


class Where(Struct, frozen=True, tag="where"):
    """Which other porters have these? Answered with a list of addresses for each."""

    digests: list[Digest]


Question = Want | Lack | Take | Have | Where


class Letter(Struct, frozen=True):
    """A question and the key that shows the right to ask."""

    key: str
    question: Question


class Way(Struct, frozen=True):
    """How the porters of a site are reached: kept in a file that is written anew when the head is another one."""

    key: str
    head: str  # address:port of the head's porter
    ca: str = ""  # the file with the site's CA, when porters speak TLS


class Site(Struct, frozen=True):
    """A porter's own certificate and key, when it speaks TLS."""

    certificate: Path
    key: Path


_encoder = msgspec.msgpack.Encoder()
_letters = msgspec.msgpack.Decoder(Letter)
_lists = msgspec.msgpack.Decoder(list[str])
_many = msgspec.msgpack.Decoder(list[list[str]])


def connect(address: str, way: Way) -> socket.socket:
    """Errors: `Unavailable`."""
    host, _, port = address.rpartition(":")
    try:
        made = socket.create_connection((host.strip("[]"), int(port)), CONNECT_S)
        made.settimeout(SILENCE_S)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if way.ca:
            context = ssl.create_default_context(cafile=way.ca)
            return context.wrap_socket(made, server_hostname=host.strip("[]"))
    except (OSError, ValueError) as error:
        raise Unavailable(f"no porter answers at {address}: {error}") from None
    return made


def write(to: socket.socket, message: object) -> None:
    to.sendall(framing.pack(_encoder.encode(message)))


def read_question(of: socket.socket, key: str) -> Question:
    """Errors: `Refused` for a wrong key, and for what is no question."""
    try:
        letter = _letters.decode(framing.receive(of))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"question cannot be read: {error}") from None
    if not hmac.compare_digest(letter.key.encode(), key.encode()):
        raise Refused("the key is not this site's")
    return letter.question


def ask_list(of: socket.socket, way: Way, question: Question) -> list[str]:
    write(of, Letter(way.key, question))
    return _lists.decode(framing.receive(of))


def ask_many(of: socket.socket, way: Way, question: Question) -> list[list[str]]:
    write(of, Letter(way.key, question))
    return _many.decode(framing.receive(of))


def keep_way(path: Path, way: Way) -> None:
    """Write it unless it is there already: readers look at the file's time."""
    body = msgspec.json.encode(way)
    try:
        if path.read_bytes() == body:
            return
    except OSError:
        pass
    files.write(path, body)


def read_way(path: Path) -> Way:
    """Errors: `Unavailable` when nobody has said yet how."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Way)
    except (OSError, msgspec.DecodeError):
        raise Unavailable("no porter of the head is known here yet") from None
