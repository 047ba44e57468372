"""Sizes, times and cpus as people write them."""

from __future__ import annotations

import pytest

from mycelium.base.errors import Refused
from mycelium.base.units import (
    GIB,
    KIB,
    MIB,
    format_cpus,
    format_size,
    format_time_ms,
    parse_cpus_m,
    parse_size,
    parse_time_ms,
)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("0", 0), ("4096", 4096), ("1K", KIB), ("512M", 512 * MIB), ("1.5G", 3 * GIB // 2), ("2GiB", 2 * GIB),
     ("2gb", 2 * GIB), (" 7 M ", 7 * MIB), ("12B", 12), ("1T", 1024 * GIB)],
)  # fmt: skip
def test_a_size_is_read(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "M", "1P", "-1", "1..5G", "1e3", "nan", "0x10", "1G1M", "1" * 16])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [("90", 90_000), ("90s", 90_000), ("1h30m", 5_400_000), ("500ms", 500), ("2d", 172_800_000), ("1.5h", 5_400_000),
     ("1:30", 5_400_000), ("1:30:05", 5_405_000), ("2-0:00", 172_800_000), ("3 min", 180_000), ("1H", 3_600_000)],
)  # fmt: skip
def test_a_time_is_read(text: str, time_ms: int) -> None:
    assert parse_time_ms(text) == time_ms


@pytest.mark.parametrize("text", ["", "h", "1y", "-5s", "1h-30m", "1:2", "1:2:3:4", "five", "1h x"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="is not a time"):
        parse_time_ms(text)


def test_a_refusal_does_not_repeat_a_book() -> None:
    for parse in (parse_size, parse_time_ms, parse_cpus_m):
        with pytest.raises(Refused) as refused:
            parse("x" * 100_000)
        assert len(refused.value.message) < 100


@pytest.mark.parametrize(("text", "cpu_m"), [("2", 2000), ("0.5", 500), ("1.25", 1250), (" 4 ", 4000), ("0.001", 1)])
def test_cpus_are_read(text: str, cpu_m: int) -> None:
    assert parse_cpus_m(text) == cpu_m


@pytest.mark.parametrize("text", ["", "-1", "1.", "0.0001", "one", "1e3"])
def test_what_is_no_number_of_cpus_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="is not a number of cpus"):
        parse_cpus_m(text)


def test_sizes_are_printed() -> None:
    sizes = (0, 1, KIB, 1536, 512 * MIB, 3 * GIB // 2, 2048 * GIB)
    assert [format_size(size) for size in sizes] == ["0B", "1B", "1K", "1.5K", "512M", "1.5G", "2T"]


def test_times_are_printed_in_two_units_at_most() -> None:
    times_ms = (0, 850, 4_200, 60_000, 90_000, 7_500_000, 273_600_000, -90_000)
    said = ["0ms", "850ms", "4.2s", "1m", "1m30s", "2h05m", "3d04h", "-1m30s"]
    assert [format_time_ms(time_ms) for time_ms in times_ms] == said


def test_cpus_are_printed() -> None:
    assert [format_cpus(cpu_m) for cpu_m in (0, 500, 1250, 2000, 64_000, 1)] == ["0", "0.5", "1.25", "2", "64", "0.001"]
