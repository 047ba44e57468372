"""The /etc that a sandboxed step sees: what programs need in order to run, and nothing about this host's users.

It is copied once for each life of an agent, because one bind is cheaper for every step than twenty.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from mycelium.sandbox.box import UID_INSIDE, WORK

COPIED = (
    "alternatives",
    "ca-certificates.conf",
    "crypto-policies",
    "debian_version",
    "fonts",
    "gai.conf",
    "host.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "localtime",
    "magic",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "pki",
    "protocols",
    "services",
    "ssl",
    "terminfo",
    "timezone",
)
NEVER = ("private",)  # /etc/ssl/private and /etc/pki/*/private hold the host's keys

WRITTEN = {
    "passwd": f"root:x:0:0:root:/:/bin/false\nmyc:x:{UID_INSIDE}:{UID_INSIDE}:a step:{WORK}:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/:/bin/false\n",
    "group": f"root:x:0:\nmyc:x:{UID_INSIDE}:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
    "resolv.conf": "",
    "machine-id": "",
}


def make(into: Path, host: Path = Path("/etc")) -> None:
    """Fill `into` anew. What the host lacks, or hides from this user, is left out."""
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    for name in COPIED:
        source = host / name
        try:
            if source.is_dir() and not source.is_symlink():
                shutil.copytree(source, into / name, symlinks=True, ignore=_ignored, dirs_exist_ok=True)
            elif source.is_file():
                shutil.copyfile(source, into / name)
        except (OSError, shutil.Error):
            continue
    for name, text in WRITTEN.items():
        (into / name).write_text(text)
    for path in (into, *into.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)


def _ignored(directory: str, names: list[str]) -> list[str]:
    """Private keys, and files that not everybody may read: a copy must not show more than the original."""
    hidden: list[str] = []
    for name in names:
        path = Path(directory) / name
        if name in NEVER or (not path.is_symlink() and not path.stat().st_mode & 0o004):
            hidden.append(name)
    return hidden
