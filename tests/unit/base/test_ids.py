"""Names."""

from __future__ import annotations

import pytest

from mycelium.base.errors import Refused
from mycelium.base.ids import (
    JobId,
    account_id,
    is_node,
    job_id,
    node_id,
    number_of,
    parse_digest,
    parse_job,
    parse_task,
    split_step,
    step_id,
    task_id,
)


def test_names_are_printed_with_their_kind() -> None:
    assert (job_id(17), node_id(3), account_id(1)) == ("job-17", "node-3", "account-1")
    assert task_id(job_id(7), 42) == "job-7.42"
    assert task_id(job_id(7), None) == "job-7"
    assert step_id(task_id(job_id(7), 42), 2, 0) == "job-7.42-a2-r0"


def test_names_are_ordered_by_their_numbers() -> None:
    assert sorted(["job-10", "job-9"], key=number_of) == ["job-9", "job-10"]


@pytest.mark.parametrize("text", ["job-17", "17", " job-17 "])
def test_a_job_is_read(text: str) -> None:
    assert parse_job(text) == "job-17"


def test_a_task_is_read() -> None:
    assert parse_task("7.42") == parse_task("job-7.42") == ("job-7", 42)
    assert parse_task("job-7") == ("job-7", None)


@pytest.mark.parametrize(
    "text", ["", "job-0", "job-01", "job-", "jobs-1", "-1", "job-1.", "job-1.01", "job-1.-1", "1e3"]
)
def test_what_is_no_task_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="is not a job"):
        parse_task(text)


def test_a_job_with_a_task_is_no_job() -> None:
    with pytest.raises(Refused):
        parse_job("job-1.2")


def test_a_steps_name_is_taken_apart() -> None:
    assert split_step("job-7.42-a2-r1") == (JobId("job-7"), 42, 2, 1)
    assert split_step("job-7-a1-r0") == (JobId("job-7"), None, 1, 0)


@pytest.mark.parametrize(
    "text", ["", "job-7", "job-7-a0-r0", "job-7-a1", "../job-7-a1-r0", "job-7-a1-r0/..", "job-7-a1-r0\n"]
)
def test_a_steps_name_is_fit_to_be_a_path(text: str) -> None:
    with pytest.raises(Refused, match="is not the name of a step"):
        split_step(text)


def test_a_nodes_name_is_known() -> None:
    assert is_node("node-1")
    assert not any(is_node(text) for text in ("node-0", "node-", "node-1x", "box", ""))


def test_an_objects_name_is_64_hexadecimal_digits() -> None:
    assert parse_digest("ab" * 32) == "ab" * 32
    for text in ("", "ab" * 31, "AB" * 32, "xy" * 32, "ab" * 32 + "\n"):
        with pytest.raises(Refused, match="is not the name of an object"):
            parse_digest(text)
