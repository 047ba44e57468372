"""Where a pool finds Ray: said by whoever keeps it in a file of the home, read by programs that may know.

The file names the token's file and does not hold the token; still, whoever can read both has all of Ray.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from mycelium.base import files
from mycelium.base.errors import Unavailable
from mycelium.base.home import Home


class RayOffer(Struct, frozen=True):
    """`environment`: the variables that say how Ray is spoken with: RAY_AUTH_…, RAY_TLS_…"""

    address: str
    environment: dict[str, str] = {}


def keep(home: Path, address: str, environment: Mapping[str, str]) -> None:
    said = {name: value for name, value in environment.items() if name.startswith("RAY_")}
    files.write(Home(home).pool, msgspec.json.encode(RayOffer(address, said)))


def withdraw(home: Path) -> None:
    with contextlib.suppress(OSError):
        Home(home).pool.unlink()


def read(path: Path) -> RayOffer:
    """Errors: `Unavailable` when there is none at the moment."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=RayOffer)
    except (OSError, msgspec.DecodeError) as error:
        raise Unavailable(f"there is no Ray at the moment: {error}") from None
