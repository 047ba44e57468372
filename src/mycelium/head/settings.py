"""What a site's owner may choose, with safe defaults."""

from __future__ import annotations

import errno
from pathlib import Path

from msgspec import Struct

from mycelium.base.errors import Problem, Refused, Unavailable
from mycelium.base.limits import GRACE_MS, LOG_KEEP_S, NODE_LOST_S, NODE_SUSPECT_S, RETAIN_ENDED_S
from mycelium.base.units import DAY_S


class SiteSettings(Struct, frozen=True):
    """Where a site lives and how it behaves. `log_url` empty: SQLite in the home directory."""

    home: Path
    host: str = "127.0.0.1"
    port: int = 0  # 0: any free port
    gateway_port: int = 0  # 0: any free port
    gateways: int = 1
    nodes: int = 1
    log_url: str = ""
    log_keep: str = str(LOG_KEEP_S // DAY_S)  # days that events stay in the log; see log/retention.py
    node_suspect_s: float = NODE_SUSPECT_S
    node_lost_s: float = NODE_LOST_S
    retain_ended_s: int = RETAIN_ENDED_S
    grace_ms: int = GRACE_MS
    name: str = "mycelium"
    engine: str = "local"  # or ray, for many machines
    address: str = ""  # where other machines reach this one
    tls: bool = False


_BAD_PLACE = (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)


def unusable_home(home: Path, error: OSError) -> Problem:
    """Why a site cannot have its home there: mostly the place is wrong; a full disk can be freed."""
    kind = Refused if error.errno in _BAD_PLACE else Unavailable
    said = "it is not a directory" if error.errno == errno.EEXIST else (error.strerror or str(error)).lower()
    return kind(f"{home} cannot be used: {said}", hint="choose another with --home")
