"""What the gateway shows to servers elsewhere: in a file of the home, never in the log, which is kept for ever."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from mycelium.base import files
from mycelium.base.errors import Refused
from mycelium.base.home import Home

LENGTH_MAX = 1024


def read(home: Path) -> dict[str, str]:
    """By deployment."""
    with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
        return msgspec.json.decode(Home(home).upstream_keys.read_bytes(), type=dict[str, str])
    return {}


def keep(home: Path, deployment: str, key: str) -> None:
    """An empty key takes away what was kept. Errors: `Refused`."""
    if len(key) > LENGTH_MAX or not key.isascii() or (key and not key.isprintable()):
        raise Refused(f"the key of an upstream has at most {LENGTH_MAX} printable ASCII characters")
    known = read(home)
    if known.get(deployment, "") != key:
        known |= {deployment: key}
        kept = {name: value for name, value in known.items() if value}
        files.write(Home(home).upstream_keys, msgspec.json.encode(kept), durable=True)
