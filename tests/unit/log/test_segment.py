from __future__ import annotations

import json
from pathlib import Path

import pytest
from blake3 import blake3

from mycelium.base.errors import Missing, Refused
from mycelium.log.entry import START, chain, mark_after
from mycelium.log.segment import read_segment, write_segment

ENTRIES = chain(START, 5, [("text", '{"name":"Müller\u2028"}'.encode()), ("binary", bytes(range(256))), ("none", b"")])
END = mark_after(ENTRIES, START)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    assert write_segment(path, START, END, ENTRIES) == 3
    return path


def test_a_segment_is_read_back_as_written(path: Path) -> None:
    after, last, entries = read_segment(path)
    assert (after, last) == (START, END)
    assert list(entries) == ENTRIES
    assert path.stat().st_mode & 0o777 == 0o600


def test_anybody_can_verify_a_segment_with_a_few_lines(path: Path) -> None:
    """The format as the module describes it, read without the module."""
    head, *lines = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    before = bytes.fromhex(head["after"]["hash"])
    for line in lines:
        data = line["text"].encode() if "text" in line else __import__("base64").b64decode(line["base64"])
        kind = line["kind"].encode()
        numbers = line["seq"].to_bytes(8) + line["time_ns"].to_bytes(8) + len(kind).to_bytes(4)
        before = blake3(before + numbers + kind + data).digest()
        assert before.hex() == line["hash"]
    assert before.hex() == head["last"]["hash"]


def test_any_changed_byte_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for at in range(0, len(whole), 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            after, last, entries = read_segment(path)
            read = list(entries)
        except Refused:
            continue
        # What a flipped bit may change unseen: the times in the first line, which no event rests on.
        assert (after.seq, after.hash, last.seq, last.hash, read) == (0, START.hash, 3, END.hash, ENTRIES)


def test_a_cut_segment_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(Refused):
            list(read_segment(path)[2])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}\n",
        b"null",
        b'{"segment": 2, "after": {"seq": 0, "time_ns": 0, "hash": ""}, "last": {"seq": 0, "time_ns": 0, "hash": ""}}',
        b'{"segment": 1, "after": {"seq": 0, "time_ns": 0, "hash": "z"}, "last": {"seq": 0, "time_ns": 0, "hash": ""}}',
        bytes(10_000),
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(Refused):
        list(read_segment(path)[2])


def test_no_file_and_a_directory_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(Missing):
        read_segment(tmp_path / "nothing")
    with pytest.raises(Refused):
        read_segment(tmp_path)
