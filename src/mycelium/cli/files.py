"""Files that a command is given or leaves, with errors that name them."""

from __future__ import annotations

from pathlib import Path

from mycelium.base import files
from mycelium.base.errors import Missing, Refused
from mycelium.base.limits import CONTAINER_BYTES_MAX


def read_bytes(path: Path) -> bytes:
    """Errors: `Missing`; `Refused` for a directory, and for more than any container may have."""
    try:
        size = path.stat().st_size
        if size > CONTAINER_BYTES_MAX:
            raise Refused(f"{path} has {size} bytes; at most {CONTAINER_BYTES_MAX}")
        return path.read_bytes()
    except FileNotFoundError:
        raise Missing(f"there is no file {path}") from None
    except IsADirectoryError:
        raise Refused(f"{path} is a directory; a file is wanted") from None


def write_bytes(path: Path, data: bytes, mode: int = files.PUBLIC) -> None:
    """All or nothing, so that a full disk leaves no half file."""
    if not path.parent.is_dir():
        raise Missing(f"there is no directory {path.parent}", hint="make it first")
    files.write(path, data, mode=mode, durable=True)
