"""Where the gateways of a site say who and where they are: the first in `gateway.json`, another in `gateway-2.json`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from mycelium.base.home import Home
from mycelium.sandbox import process
from mycelium.sandbox.process import Process


def numbers(home: Path) -> list[int]:
    """Those that ran here at any time, in order."""
    return Home.gateway_numbers(path.name for path in home.glob("gateway*.pid"))


def living(home: Path, number: int) -> Process | None:
    found = process.read(str(Home(home).gateway(number).pid))
    return found if found is not None and found.lives() else None


def url_of(home: Path, number: int) -> str | None:
    """Where it answers, or did when it lived; None before it ever has."""
    try:
        return str(msgspec.json.decode(Home(home).gateway(number).json.read_bytes())["url"])
    except (OSError, msgspec.DecodeError, KeyError, TypeError):
        return None


def urls(home: Path) -> list[str]:
    """Of those that live; of the first one if none does, because it is started again at the same address."""
    found = [url_of(home, number) for number in numbers(home) if living(home, number)] or [url_of(home, 1)]
    return [url for url in found if url is not None]
