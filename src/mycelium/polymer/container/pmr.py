"""The container: one file with a program's text, the bodies that it names, its frames and its signatures.

Layout, all numbers big-endian: 8 bytes magic; u32 length and JSON manifest; u32 length and JSON signatures; the
parts, one after the other as the manifest lists them; 32 bytes BLAKE3 of everything before. Nothing is compressed and
nothing is pickled, so nothing can unfold into more than the file's own size. The same program gives the same bytes.
Never: runs anything, or opens files.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import blake3
import msgspec
from msgspec import Struct

from mycelium.base.errors import Refused
from mycelium.base.limits import CONTAINER_BYTES_MAX, CONTAINER_PARTS_MAX, CONTAINER_SIGNATURES_MAX
from mycelium.polymer.compiler.check import check
from mycelium.polymer.kernel import EXTRAS, Form, FusedForm, Kernel, LivePython, LiveXla, form_name
from mycelium.polymer.program.graph import Module, frames
from mycelium.polymer.program.text import parse, write

MAGIC = b"\x89PMR\r\n\x1a\n"
VERSION = 1
_LENGTH = struct.Struct(">I")
_DIGEST_BYTES = 32


class Part(Struct, frozen=True, forbid_unknown_fields=True):
    digest: str
    size_bytes: int


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """What is signed. The first part is the program's text, the others are the bodies that it names."""

    version: int
    name: str
    inputs: str
    result: str
    forms: tuple[str, ...]
    parts: tuple[Part, ...]
    frames: tuple[tuple[int, ...], ...]


class ManifestSignature(Struct, frozen=True, forbid_unknown_fields=True):
    """`chain` holds certificates as PEM, the signer's first; `value` is base64 of the signature over the manifest."""

    chain: tuple[str, ...]
    value: str


class Container(Struct, frozen=True):
    module: Module
    manifest: Manifest
    manifest_bytes: bytes
    signatures: tuple[ManifestSignature, ...]
    parts: tuple[bytes, ...]


def pack(module: Module) -> bytes:
    """The unsigned container of a sealed module. Errors: `Refused` for live kernels and for constants without text."""
    check(module)
    for kernel in module.kernels.values():
        if any(isinstance(form, LivePython | LiveXla) for form in _flat(kernel)):
            raise Refused(f"kernel {kernel.name} still is a live function", hint="seal the program first")
    text = write(module)
    parts = (text.text.encode(), *(text.bodies[digest] for digest in sorted(text.bodies)))
    manifest = Manifest(
        VERSION,
        module.main.name,
        ", ".join(map(str, module.main.inputs())),
        str(module.main.result()),
        tuple(sorted({form_name(form) for kernel in module.kernels.values() for form in _flat(kernel)} & _SHOWN)),
        tuple(Part(blake3.blake3(part).hexdigest(), len(part)) for part in parts),
        tuple(tuple(frame) for frame in frames(module.main)),
    )
    return _join(msgspec.json.encode(manifest), (), parts)


_SHOWN = {"python", *EXTRAS}


def _flat(kernel: Kernel) -> Iterator[Form]:
    for form in kernel.forms:
        yield form
        if isinstance(form, FusedForm):
            for member in form.members:
                yield from _flat(member)


def with_signature(data: bytes, signature: ManifestSignature) -> bytes:
    """The same container with one signature more."""
    held = read(data)
    if len(held.signatures) >= CONTAINER_SIGNATURES_MAX:
        raise Refused(f"the container has {len(held.signatures)} signatures already")
    return _join(held.manifest_bytes, (*held.signatures, signature), held.parts)


def _join(manifest: bytes, signatures: tuple[ManifestSignature, ...], parts: tuple[bytes, ...]) -> bytes:
    signed = msgspec.json.encode(signatures)
    head = MAGIC + _LENGTH.pack(len(manifest)) + manifest + _LENGTH.pack(len(signed)) + signed
    body = head + b"".join(parts)
    size = len(body) + _DIGEST_BYTES
    if size > CONTAINER_BYTES_MAX:
        raise Refused(
            f"the container has {size} bytes; at most {CONTAINER_BYTES_MAX}", hint="pass large data as inputs"
        )
    return body + blake3.blake3(body).digest()


def read(data: bytes) -> Container:
    """The container in `data`, with every length, digest, type and reference checked; nothing is run.

    Errors: `Refused` with what is wrong. Cost: memory of the order of the file's own size.
    """
    if len(data) > CONTAINER_BYTES_MAX:
        raise Refused(f"the container has {len(data)} bytes; at most {CONTAINER_BYTES_MAX}")
    if data[: len(MAGIC)] != MAGIC:
        raise Refused("this is not a Polymer container", hint="make one with `myc polymer compile`")
    body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if len(body) < len(MAGIC) or blake3.blake3(body).digest() != digest:
        raise Refused("the container was altered or cut short: its checksum does not match")
    manifest_bytes, at = _section(body, len(MAGIC), "manifest")
    signature_bytes, at = _section(body, at, "signatures")
    manifest = _decode(manifest_bytes, Manifest, "manifest")
    signatures = _decode(signature_bytes, tuple[ManifestSignature, ...], "signatures")
    if manifest.version != VERSION:
        raise Refused(f"the container is of version {manifest.version}; this release reads version {VERSION}")
    if len(signatures) > CONTAINER_SIGNATURES_MAX:
        raise Refused(f"the container has {len(signatures)} signatures; at most {CONTAINER_SIGNATURES_MAX}")
    parts = _parts(body, at, manifest)
    module = _module(parts, manifest)
    return Container(module, manifest, manifest_bytes, signatures, parts)


def _section(body: bytes, at: int, what: str) -> tuple[bytes, int]:
    if at + _LENGTH.size > len(body):
        raise Refused(f"the container ends before its {what}")
    (size,) = _LENGTH.unpack_from(body, at)
    at += _LENGTH.size
    if at + size > len(body):
        raise Refused(f"the container's {what} claims {size} bytes; {len(body) - at} are left")
    return body[at : at + size], at + size


def _decode(data: bytes, kind: Any, what: str) -> Any:
    try:
        found = msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"the container's {what} cannot be read: {error!s:.200}") from None
    if msgspec.json.encode(found) != data:
        raise Refused(f"the container's {what} is not in its canonical form")
    return found


def _parts(body: bytes, at: int, manifest: Manifest) -> tuple[bytes, ...]:
    if not 1 <= len(manifest.parts) <= CONTAINER_PARTS_MAX:
        raise Refused(f"the container lists {len(manifest.parts)} parts; 1 to {CONTAINER_PARTS_MAX}")
    if any(part.size_bytes < 0 for part in manifest.parts):
        raise Refused("the container lists a part of negative size")
    listed = sum(part.size_bytes for part in manifest.parts)
    if listed != len(body) - at:
        raise Refused(f"the container's parts claim {listed} bytes; it holds {len(body) - at}")
    found: list[bytes] = []
    for number, part in enumerate(manifest.parts):
        data = body[at : at + part.size_bytes]
        if blake3.blake3(data).hexdigest() != part.digest:
            raise Refused(f"part {number} of the container is not what its manifest names")
        found.append(data)
        at += part.size_bytes
    return tuple(found)


def _module(parts: tuple[bytes, ...], manifest: Manifest) -> Module:
    bodies = {part.digest: data for part, data in zip(manifest.parts[1:], parts[1:], strict=True)}
    try:
        text = parts[0].decode()
    except UnicodeDecodeError:
        raise Refused("the container's program is not UTF-8 text") from None
    module = parse(text, bodies)
    check(module)
    written = write(module)
    if written.text != text or set(written.bodies) != set(bodies):
        raise Refused("the container's program is not in its canonical form")
    promised = (module.main.name, ", ".join(map(str, module.main.inputs())), str(module.main.result()))
    if promised != (manifest.name, manifest.inputs, manifest.result):
        raise Refused("the container's manifest describes another program than it holds")
    if tuple(tuple(frame) for frame in frames(module.main)) != manifest.frames:
        raise Refused("the container's frames are not those of its program")
    forms = {form_name(form) for kernel in module.kernels.values() for form in _flat(kernel)} & _SHOWN
    if tuple(sorted(forms)) != manifest.forms:
        raise Refused("the container's manifest names other forms than it holds")
    return module
