"""Laws of what people write and of what is written down: nothing is lost on the way, and nothing crashes the reader."""

from __future__ import annotations

import builtins
import contextlib
import enum
import types
import typing
from typing import Any, get_args, get_origin

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mycelium.base.errors import Problem, Refused
from mycelium.base.ids import job_id, split_step, step_id, task_id
from mycelium.base.units import (
    format_cpus,
    format_size,
    format_time_ms,
    parse_cpus_m,
    parse_size,
    parse_time_ms,
)
from mycelium.head.codec import Codec
from mycelium.head.domains import mounted
from mycelium.jobs import request
from mycelium.jobs.model import Array, Ended, Priority, Reason, Request, Sandbox
from mycelium.nodes.model import Devices
from mycelium.nodes.select import parse_terms, unmet

CODEC = Codec(mounted())
KINDS = tuple(mounted().kinds)

loose = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

text = st.text(max_size=40)
json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=8,
)
hostile = st.one_of(
    json,
    st.sampled_from(
        ["", " ", "\0", "\ud800", "0-9", "9-0", "1:0", "0-99999999%0", "1e400", "-1", "²", "١٢", "NaN", "0x10"]
    ),
    st.integers(10**15, 10**40),
    st.sampled_from([5000, -5000]).map(lambda power: 10**power if power > 0 else -(10**-power)),  # too long to print
    st.sampled_from([float("nan"), float("inf"), -0.0]),
    st.text("0123456789-:%.kmgs ", max_size=14),
)


@loose
@given(st.dictionaries(st.sampled_from([*request.KEYS, "cmd", "\ud800", ""]), hostile, max_size=6))
def test_reading_a_job_gives_a_request_or_one_refusal(document: dict[str, Any]) -> None:
    try:
        found = request.read(document)
    except Problem as problem:
        assert isinstance(problem, Refused)
        assert problem.message
        assert problem.message.encode()  # what is said about it can be sent
        assert problem.hint.encode() or not problem.hint
    else:
        assert msgspec.json.decode(msgspec.json.encode(found), type=Request) == found


@loose
@given(json)
def test_anything_but_a_table_is_refused(document: Any) -> None:
    with contextlib.suppress(Refused):
        request.read(document)


@pytest.mark.parametrize("key", request.KEYS)
@loose
@given(value=hostile)
def test_each_key_reads_or_refuses(key: str, value: Any) -> None:
    try:
        request.KEYS[key].read(value)
    except Refused as refused:
        assert refused.message.encode()


@loose
@given(text | st.text("abz01=!,. -/:", max_size=30))
def test_a_selector_reads_or_refuses(value: str) -> None:
    try:
        terms = parse_terms(value)
    except Refused:
        return
    assert parse_terms(",".join(terms)) == terms
    assert set(unmet(terms, {})) <= set(terms)


# Units.


@given(st.integers(0, 10**15))
def test_a_size_comes_back_within_the_digits_that_are_shown(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == pytest.approx(size_bytes, rel=0.05, abs=0.5)


@given(st.integers(1, 1023), st.sampled_from("KMGT"))
def test_a_whole_size_comes_back_exactly(number: int, unit: str) -> None:
    assert format_size(parse_size(f"{number}{unit}")) == f"{number}{unit}"


@given(st.integers(0, 30 * 86_400_000))
def test_a_time_comes_back_within_its_second_unit(time_ms: int) -> None:
    unit_ms = (
        100 if time_ms < 60_000 else 1000 if time_ms < 3_600_000 else 60_000 if time_ms < 86_400_000 else 3_600_000
    )
    assert abs(parse_time_ms(format_time_ms(time_ms)) - time_ms) <= unit_ms


@given(st.integers(0, 999_999_999))
def test_cpus_come_back_exactly(cpu_m: int) -> None:
    assert parse_cpus_m(format_cpus(cpu_m)) == cpu_m


@given(st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_slurms_clock_is_read(hours: int, minutes: int, seconds: int) -> None:
    assert parse_time_ms(f"{hours}:{minutes:02}:{seconds:02}") == ((hours * 60 + minutes) * 60 + seconds) * 1000


# Names.


@given(st.integers(1, 10**9), st.none() | st.integers(0, 10**6), st.integers(1, 1000), st.integers(0, 1000))
def test_a_steps_name_says_what_it_is(job: int, index: int | None, attempt: int, rank: int) -> None:
    assert split_step(step_id(task_id(job_id(job), index), attempt, rank)) == (job_id(job), index, attempt, rank)


@given(text)
def test_no_text_crashes_a_name(name: str) -> None:
    with contextlib.suppress(Refused):
        split_step(name)


# Devices.

devices = st.builds(Devices, st.integers(0, 10**6), st.integers(0, 2**50), st.integers(0, 64))


@given(devices, devices)
def test_what_is_added_can_be_taken_away(one: Devices, other: Devices) -> None:
    assert one + other - other == one
    assert (one + other).covers(one)


@given(devices, st.integers(0, 50))
def test_times_is_adding_so_often(one: Devices, times: int) -> None:
    total = Devices()
    for _ in range(times):
        total = total + one
    assert one * times == total


# The log's own writing.

plain = st.text(st.characters(codec="utf-8"), max_size=20)
digests = st.none() | st.text("0123456789abcdef", min_size=64, max_size=64)
arrays = st.none() | st.builds(Array, st.integers(0, 9), st.integers(9, 99), st.integers(1, 9), st.integers(0, 9))
jobs = st.builds(job_id, st.integers(1, 10**9))
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    Request: st.builds(
        Request,
        command=st.lists(plain, min_size=1, max_size=3).map(tuple),
        name=plain,
        needs=devices,
        time_ms=st.integers(1, 10**9),
        nodes=st.integers(1, 9),
        array=arrays,
        after=st.lists(jobs, max_size=3).map(tuple),
        inputs=st.lists(jobs, max_size=2).map(tuple),
        priority=st.sampled_from(Priority),
        on=st.lists(plain, max_size=2).map(tuple),
        retries=st.integers(0, 9),
        env=st.dictionaries(plain, plain, max_size=3),
        net=st.booleans(),
        workdir=digests,
        outputs=st.lists(plain, max_size=2).map(tuple),
        sandbox=st.sampled_from(Sandbox),
    ),
    Ended: st.builds(
        Ended,
        reason=st.sampled_from(Reason),
        exit_code=st.integers(0, 255),
        message=plain,
        outputs=digests,
        stdout=digests,
        stderr=digests,
        started_ns=st.integers(0, 2**62),
        ended_ns=st.integers(0, 2**62),
        cpu_ms=st.integers(0, 2**40),
        memory_peak_bytes=st.integers(0, 2**50),
    ),
    Devices: devices,
    str: plain,
    int: st.integers(-(2**62), 2**62),
    bool: st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bytes: st.binary(max_size=20),
    type(None): st.none(),
}


def value_of(kind: Any) -> st.SearchStrategy[Any]:
    """Anything that a field of this type may hold."""
    kind = getattr(kind, "__supertype__", kind)  # a typed name is a text
    if kind in VALUES:
        return VALUES[kind]
    inner = [value_of(part) for part in get_args(kind) if part is not Ellipsis]
    match get_origin(kind):
        case builtins.tuple:
            return st.lists(inner[0], max_size=3).map(tuple) if Ellipsis in get_args(kind) else st.tuples(*inner)
        case builtins.list:
            return st.lists(inner[0], max_size=3)
        case builtins.dict:
            return st.dictionaries(*inner, max_size=3)
        case types.UnionType | typing.Union:
            return st.one_of(inner)
        case _ if issubclass(kind, enum.Enum):
            return st.sampled_from(kind)
        case _:
            return events(kind)


@st.composite
def events(draw: st.DrawFn, kind: type) -> Any:
    return kind(**{field.name: draw(value_of(field.type)) for field in msgspec.structs.fields(kind)})


@pytest.mark.parametrize("kind", KINDS, ids=[kind.__name__ for kind in KINDS])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_an_event_is_read_as_it_was_written(kind: type, data: st.DataObject) -> None:
    event = data.draw(events(kind))
    assert CODEC.decode(*CODEC.encode(event)) == event
