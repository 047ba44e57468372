"""What porters are asked and what they answer: MessagePack in frames, then plain bytes.

A connection begins with a handshake, in which each end shows that it has the site's key. After `Want`, the porter
sends for each object eight bytes (how many follow, or -1 when it is not here) and the bytes. After `Take`, the asker
sends for each object its digest, eight bytes and the bytes; the porter answers when they are durable.

Never: sends the key.
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from mycelium.base import files, framing, handshake
from mycelium.base.errors import Problem, Refused, Unavailable
from mycelium.base.ids import Digest
from mycelium.base.meeting import meet

SIZE = struct.Struct("!q")
CONNECT_S = 5.0
SILENCE_S = 20.0  # no byte for this long: the other end is gone
PIECE_BYTES = 1 << 20

PURPOSE = b"porter"

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


class Way(Struct, frozen=True):
    """How the porters of a site are reached: kept in a file that is written anew when the head is another one."""

    key: str
    head: str  # address:port of the head's porter
    ca: str = ""  # the file with the site's CA, when porters speak TLS


class PorterIdentity(Struct, frozen=True):
    """A porter's own certificate and key, when it speaks TLS."""

    certificate: Path
    key: Path


_encoder = msgspec.msgpack.Encoder()
_questions = msgspec.msgpack.Decoder(Question)
_lists = msgspec.msgpack.Decoder(list[str])
_many = msgspec.msgpack.Decoder(list[list[str]])


def connect(address: str, way: Way) -> socket.socket:
    """A connection on which nothing is shown yet. Errors: `Unavailable`."""
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


def knock(address: str, way: Way) -> socket.socket:
    """A connection to a porter of our site, which may be asked. Errors: `Unavailable`."""
    line = connect(address, way)
    try:
        steps = handshake.knock(way.key.encode(), PURPOSE, os.urandom(handshake.FRESH_BYTES))
        meet(line, steps, within_s=SILENCE_S)  # a porter that serves as many as it can lets us wait
    except (OSError, Problem) as error:
        line.close()
        raise Unavailable(f"the porter at {address} is not one of our site: {error}") from None
    return line


def let_in(line: socket.socket, key: str) -> None:
    """Return when the other end has shown that it has the key. Errors: `Denied`, `Refused`, `OSError`."""
    meet(line, handshake.answer(key.encode(), PURPOSE, os.urandom(handshake.FRESH_BYTES)))


def write(to: socket.socket, message: object) -> None:
    to.sendall(framing.pack(_encoder.encode(message)))


def read_question(of: socket.socket) -> Question:
    """Errors: `Refused` for what is no question."""
    try:
        return _questions.decode(framing.receive(of))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"question cannot be read: {error}") from None


def ask_list(of: socket.socket, question: Question) -> list[str]:
    write(of, question)
    return _answer(_lists, of)


def ask_many(of: socket.socket, question: Question) -> list[list[str]]:
    write(of, question)
    return _answer(_many, of)


def _answer(decoder: msgspec.msgpack.Decoder[T], of: socket.socket) -> T:
    """Errors: `Refused` for what is no answer."""
    try:
        return decoder.decode(framing.receive(of))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"answer cannot be read: {error}") from None


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
