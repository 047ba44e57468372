"""How a job is read as people write it."""

from __future__ import annotations

from typing import Any

import pytest

from mycelium.base.errors import Refused
from mycelium.base.ids import Digest, JobId
from mycelium.base.limits import (
    ARRAY_TASKS_MAX,
    COMMAND_BYTES_MAX,
    ENV_BYTES_MAX,
    ENV_ENTRIES_MAX,
    NAME_LENGTH_MAX,
    TIME_MS_DEFAULT,
    TIME_MS_MAX,
)
from mycelium.base.units import GIB, MIB
from mycelium.jobs.keys import KEYS
from mycelium.jobs.model import Array, Priority, Request, Sandbox
from mycelium.jobs.request import read
from mycelium.nodes.model import Devices


def one(key: str, value: Any) -> Any:
    """What a job with this key asks for."""
    found = read({"command": ["true"], key: value})
    if key in ("cpus", "memory", "gpus"):
        return getattr(found.needs, {"cpus": "cpu_m", "memory": "memory_bytes", "gpus": "gpus"}[key])
    return getattr(found, "time_ms" if key == "time" else key)


def test_the_least_job_is_a_command() -> None:
    assert read({"command": ["echo", "hi"]}) == Request(
        command=("echo", "hi"), name="echo", needs=Devices(1000, 512 * MIB), time_ms=TIME_MS_DEFAULT
    )


def test_a_text_is_a_command_for_the_shell() -> None:
    assert one("command", "echo $HOME | wc") == ("sh", "-c", "echo $HOME | wc")


def test_every_key_is_read() -> None:
    found = read(
        {
            "command": ["python3", "train.py"],
            "name": "training",
            "cpus": 2.5,
            "memory": "4G",
            "gpus": 1,
            "nodes": 2,
            "time": "1h30m",
            "array": "0-98:2%10",
            "after": ["job-3", "4,job-5"],
            "inputs": "job-6",
            "priority": "High",
            "on": ["arch=arm64", "!virtual"],
            "retries": 3,
            "env": {"A": "b"},
            "net": True,
            "outputs": ["out/*.json"],
            "sandbox": "none",
            "workdir": "ab" * 32,
        }
    )
    assert found == Request(
        command=("python3", "train.py"),
        name="training",
        needs=Devices(2500, 4 * GIB, 1),
        time_ms=5_400_000,
        nodes=2,
        array=Array(0, 98, 2, 10),
        after=(JobId("job-3"), JobId("job-4"), JobId("job-5"), JobId("job-6")),
        inputs=(JobId("job-6"),),
        priority=Priority.HIGH,
        on=("arch=aarch64", "!virtual"),
        retries=3,
        env={"A": "b"},
        net=True,
        workdir=Digest("ab" * 32),
        outputs=("out/*.json",),
        sandbox=Sandbox.NONE,
    )


@pytest.mark.parametrize(
    ("key", "value", "meaning"),
    [
        ("cpus", 1, 1000),
        ("cpus", 0.01, 10),
        ("cpus", "0.5", 500),
        ("cpus", 4096, 4_096_000),
        ("memory", "4M", 4 * MIB),
        ("memory", 4 * MIB, 4 * MIB),
        ("time", 90, 90_000),
        ("time", "30d", TIME_MS_MAX),
        ("time", "1ms", 1),
        ("array", "7", Array(7, 7)),
        ("array", 7, Array(7, 7)),
        ("array", "0-9", Array(0, 9)),
        ("array", "3-3%1", Array(3, 3, 1, 1)),
        ("array", f"1-{ARRAY_TASKS_MAX}", Array(1, ARRAY_TASKS_MAX)),
        ("after", ["job-1", "1", "job-2"], ("job-1", "job-2")),
        ("retries", "5", 5),
        ("retries", 0, 0),
        ("priority", "low", Priority.LOW),
        ("name", "x" * NAME_LENGTH_MAX, "x" * NAME_LENGTH_MAX),
        ("outputs", "a.txt", ("a.txt",)),
        ("net", None, False),
    ],
)
def test_what_a_key_means(key: str, value: Any, meaning: Any) -> None:
    assert one(key, value) == meaning


MISTAKES: list[tuple[str, Any, str]] = [
    ("command", [], "is empty"),
    ("command", [" "], "is empty"),
    ("command", ["a\0b"], "zero byte"),
    ("command", "a\0b", "zero byte"),
    ("command", ["a", 1], "list of texts"),
    ("command", "\ud800", "not valid unicode"),
    ("command", ["\ud800"], "not valid unicode"),
    ("command", ["x" * (COMMAND_BYTES_MAX + 1)], "at most"),
    ("name", "", "printable"),
    ("name", "a\nb", "printable"),
    ("name", "x" * (NAME_LENGTH_MAX + 1), "printable"),
    ("name", 7, "must be a text"),
    ("cpus", 0, "from 0.01"),
    ("cpus", -1, "from 0.01"),
    ("cpus", 5000, "from 0.01"),
    ("cpus", True, "number of cpus"),
    ("cpus", float("nan"), "number of cpus"),
    ("cpus", 10**50, "more than 40 digits"),
    ("cpus", [1], "number of cpus"),
    ("memory", "1M", "from 4M"),
    ("memory", "65T", "to 64T"),
    ("memory", "much", "not a size"),
    ("memory", 1.5, "a size"),
    ("gpus", -1, "from 0"),
    ("gpus", 1.0, "whole number"),
    ("gpus", True, "whole number"),
    ("gpus", 10**50, "40 digits"),
    ("nodes", 0, "from 1"),
    ("nodes", "many", "whole number"),
    ("time", 0, "above 0"),
    ("time", "31d", "at most 30d"),
    ("time", "soon", "not a time"),
    ("time", -5, "a time"),
    ("array", "9-0", "holds no index"),
    ("array", "0-9:0", "holds no index"),
    ("array", "0-9%0", "0 tasks"),
    ("array", f"0-{ARRAY_TASKS_MAX}", "at most"),
    ("array", "a-b", "not a range"),
    ("array", True, "not a range"),
    ("array", 10**50, "more than 40 digits"),
    ("array", -1, "not a range"),
    ("after", ["7x"], "not a job"),
    ("after", 7, "list of texts"),
    ("after", [f"job-{n}" for n in range(1, 200)], "at most"),
    ("priority", "urgent", "one of: low, normal, high"),
    ("priority", 1, "not a priority"),
    ("on", "a b", "selector term"),
    ("env", ["A=b"], "a table"),
    ("env", {"1A": "b"}, "not a name"),
    ("env", {"MYC_X": "b"}, "reserved"),
    ("env", {"LD_PRELOAD": "b"}, "reserved"),
    ("env", {"A": 1}, "must be a text"),
    ("env", {"A": "\ud800"}, "must be a text"),
    ("env", {"A": "x" * ENV_BYTES_MAX}, "at most"),
    ("env", {f"A{n}": "" for n in range(ENV_ENTRIES_MAX + 1)}, "at most"),
    ("net", "yes", "true or false"),
    ("outputs", "/etc/passwd", "does not stay"),
    ("outputs", "a/../../b", "does not stay"),
    ("outputs", [""], "does not stay"),
    ("sandbox", "vm", "one of: none, process"),
    ("workdir", "abc", "name of an object"),
]


@pytest.mark.parametrize(("key", "value", "said"), MISTAKES, ids=[f"{n}-{row[0]}" for n, row in enumerate(MISTAKES)])
def test_what_cannot_be_is_refused_with_its_bound(key: str, value: Any, said: str) -> None:
    with pytest.raises(Refused) as refused:
        read({"command": ["true"], key: value})
    fault = refused.value.faults[0]
    assert fault.where.split(".")[0] == key
    assert said in f"{fault.message} {fault.hint}"


@pytest.mark.parametrize("key", KEYS)
def test_a_number_too_long_to_print_is_refused_and_not_printed(key: str) -> None:
    with pytest.raises(Refused) as refused:
        read({"command": ["true"], key: 10**5000})
    assert len(refused.value.message) < 200


def test_all_mistakes_are_said_at_once() -> None:
    with pytest.raises(Refused, match="4 mistakes") as refused:
        read({"cpus": 0, "memroy": "4G", "time": "soon"})
    assert [fault.where for fault in refused.value.faults] == ["memroy", "cpus", "time", "command"]
    assert refused.value.faults[0].hint == "did you mean 'memory'?"


def test_a_key_that_cannot_be_printed_is_shown_escaped() -> None:
    with pytest.raises(Refused) as refused:
        read({"command": ["true"], "\ud800\x1b[31m": 1})
    assert refused.value.message.encode().isascii()
    assert "\x1b" not in refused.value.message


@pytest.mark.parametrize("document", [None, [], "true", 7, [("command", ["true"])]])
def test_a_job_is_a_table(document: Any) -> None:
    with pytest.raises(Refused, match="a job is a table"):
        read(document)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["/usr/bin/env"], "env"),
        (["python3", "-u", "dir/train.py"], "train.py"),
        (["sh", "-c", "PASSWORD=hunter2 make all"], "sh"),
        (["bash", "-lc", "make all"], "bash"),
        (["bash", "run.sh", "x"], "run.sh"),
        (["./a.out"], "a.out"),
        (["-"], "-"),
        (["\x1b[31m"], "[31m"),
        (["\t\tx"], "x"),
    ],
)
def test_a_job_without_a_name_is_called_after_its_program(command: list[str], name: str) -> None:
    assert read({"command": command}).name == name


def test_every_key_says_what_it_is_for() -> None:
    assert all(rule.says and rule.says[0].islower() and not rule.says.endswith(".") for rule in KEYS.values())


DIGESTS = {"program": "a" * 64, "input": "b" * 64}


def test_a_program_brings_its_own_command_and_keeps_its_result():
    found = read({**DIGESTS, "cpus": 2})
    assert found.command == ("myc:program",) and found.outputs == ("result.pmv", "kept/*.pmk")
    assert (found.program, found.input, found.net, found.elastic) == ("a" * 64, "b" * 64, False, False)


def test_a_program_on_several_nodes_is_an_elastic_gang_with_the_network():
    found = read({**DIGESTS, "nodes": 3})
    assert (found.nodes, found.net, found.elastic) == (3, True, True)


@pytest.mark.parametrize("extra", [{"command": ["true"]}, {"array": "0-1"}, {"outputs": ["*"]}, {"workdir": "c" * 64}])
def test_what_a_program_decides_itself_is_refused(extra: dict[str, object]):
    with pytest.raises(Refused, match="does not go with program"):
        read({**DIGESTS, **extra})


def test_program_and_input_go_together():
    with pytest.raises(Refused, match="input: is missing"):
        read({"program": "a" * 64})
    with pytest.raises(Refused, match="input: goes with program"):
        read({"command": ["true"], "input": "a" * 64})
