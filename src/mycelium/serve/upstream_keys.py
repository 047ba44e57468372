"""What the gateway shows to servers elsewhere: in a file of the home, never in the log, which is kept for ever.

A key belongs to one deployment at one server. So it can be kept after the head has decided, and is shown to no other
server in the moment between.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from mycelium.base import files
from mycelium.base.errors import Refused
from mycelium.base.home import Home

LENGTH_MAX = 1024


class KeptKey(Struct, frozen=True):
    """A key, and the only server that it is shown to."""

    upstream: str
    key: str


def check(key: str) -> str:
    """Errors: `Refused` for what no header can carry."""
    if len(key) > LENGTH_MAX or not key.isascii() or (key and not key.isprintable()):
        raise Refused(f"the key of an upstream has at most {LENGTH_MAX} printable ASCII characters")
    return key


class UpstreamKeys:
    """The keys by deployment. `upstreams`: where each deployment is passed on to when the site starts.

    What 0.1 wrote names no server: it belongs to the one that its deployment has now.
    """

    def __init__(self, home: Path, upstreams: Mapping[str, str]) -> None:
        self._path = Home(home).upstream_keys
        self._kept: dict[str, KeptKey] = {}
        self._lock = asyncio.Lock()
        self._followers: set[asyncio.Event] = set()
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            found = msgspec.json.decode(self._path.read_bytes(), type=dict[str, KeptKey | str])
            bound = {
                name: KeptKey(upstreams.get(name, ""), one) if isinstance(one, str) else one
                for name, one in found.items()
            }
            if bound != found:
                self._write(bound)
            self._kept = bound

    def shown(self) -> dict[tuple[str, str], str]:
        """By deployment and upstream."""
        return {(name, one.upstream): one.key for name, one in self._kept.items()}

    async def keep(self, deployment: str, upstream: str, key: str) -> None:
        """The head has decided that the deployment is passed on to `upstream`; empty: to none.

        Without a key it keeps the one that it has for this server, and loses one for another.
        """
        async with self._lock:
            known = self._kept.get(deployment, KeptKey(upstream, ""))
            kept = KeptKey(upstream, key or (known.key if known.upstream == upstream else ""))
            wanted = {name: one for name, one in {**self._kept, deployment: kept}.items() if one.upstream and one.key}
            if wanted == self._kept:
                return
            await asyncio.to_thread(self._write, wanted)
            self._kept = wanted
        for changed in self._followers:
            changed.set()

    @contextlib.contextmanager
    def following(self, changed: asyncio.Event) -> Generator[None]:
        """Sets the event whenever a key has changed."""
        self._followers.add(changed)
        try:
            yield
        finally:
            self._followers.discard(changed)

    def _write(self, kept: Mapping[str, KeptKey]) -> None:
        files.write(self._path, msgspec.json.encode(kept), durable=True)
