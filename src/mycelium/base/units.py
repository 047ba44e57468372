"""Sizes, times and shares of a cpu, as people write them and as the system keeps them.

Kept as integers: bytes, nanoseconds, milli-cpus. Read and printed here and nowhere else.
"""

from __future__ import annotations

import re

from mycelium.base.errors import Refused

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
MS_NS = 1_000_000
S_NS = 1_000_000_000
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400

SIZES = {"": 1, "b": 1, "k": KIB, "m": MIB, "g": GIB, "t": TIB}
TIMES_MS = {"ms": 1, "s": 1000, "": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_TIME_PART = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*(ms|min|[smhd]|)", re.IGNORECASE)
_CLOCK = re.compile(r"(?:(\d{1,4})-)?(\d{1,4}):(\d{2})(?::(\d{2}))?")
_CPUS = re.compile(r"\d{1,6}(?:\.\d{1,3})?")


def parse_size(text: str) -> int:
    """Bytes of `512M`, `1.5GiB` or `4096`. Units are powers of 1024, as memory is counted."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise Refused(f"{text[:40]!r} is not a size", hint="write 512M, 1.5G or a number of bytes")
    return (
        int(float(match[1]) * SIZES[match[2].lower()]) if "." in match[1] else int(match[1]) * SIZES[match[2].lower()]
    )


def parse_time_ms(text: str) -> int:
    """Milliseconds of `90`, `90s`, `1h30m`, `500ms`, or Slurm's `[days-]hours:minutes[:seconds]`."""
    text = text.strip()
    clock = _CLOCK.fullmatch(text)
    if clock is not None:
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000
    parts = _TIME_PART.findall(text)
    if not parts or "".join(_TIME_PART.split(text)[::3]).strip():
        raise Refused(f"{text[:40]!r} is not a time", hint="write 90s, 15m, 1h30m, 2d or 1:30:00")
    return round(sum(float(number) * TIMES_MS[unit.lower()] for number, unit in parts))


def parse_cpus_m(text: str) -> int:
    """Milli-cpus of `2` or `0.5`."""
    if _CPUS.fullmatch(text.strip()) is None:
        raise Refused(f"{text[:40]!r} is not a number of cpus", hint="write 1, 4 or 0.5")
    return round(float(text) * 1000)


def format_size(size_bytes: int) -> str:
    """The shortest exact-enough form: `512M`, `1.5G`, `0B`."""
    for unit, factor in (("T", TIB), ("G", GIB), ("M", MIB), ("K", KIB)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f}".removesuffix(".0") + unit
    return f"{size_bytes}B"


def format_time_ms(time_ms: int) -> str:
    """`850ms`, `4.2s`, `1m30s`, `2h05m`, `3d04h`: two units at most."""
    if time_ms < 0:
        return "-" + format_time_ms(-time_ms)
    if time_ms < 1000:
        return f"{time_ms}ms"
    if time_ms < 60_000:
        return f"{time_ms / 1000:.1f}".removesuffix(".0") + "s"
    total_s = round(time_ms / 1000)
    for large, unit, small, below in ((DAY_S, "d", HOUR_S, "h"), (HOUR_S, "h", MINUTE_S, "m"), (MINUTE_S, "m", 1, "s")):
        if total_s >= large:
            rest = total_s % large // small
            return f"{total_s // large}{unit}" + (f"{rest:02}{below}" if rest else "")
    return f"{total_s}s"


def format_cpus(cpu_m: int) -> str:
    """`2`, `0.5`, `1.25`."""
    return f"{cpu_m / 1000:.3f}".rstrip("0").rstrip(".")
