"""Which gateways a site has, by what lies in its home."""

from __future__ import annotations

import json
from pathlib import Path

from mycelium.base.home import Home
from mycelium.sandbox import process
from mycelium.sandbox.process import NOBODY
from mycelium.serve.gateway.paths import numbers, urls


def put(home: Path, number: int, *, lives: bool) -> None:
    who = process.this(0) if lives else NOBODY
    Home(home).gateway(number).pid.write_bytes(who.encode())
    Home(home).gateway(number).json.write_text(json.dumps({"url": f"http://{number}"}))


def test_those_that_live_are_named_in_order(tmp_path: Path):
    for number in (10, 2, 1, 3):
        put(tmp_path, number, lives=number != 2)
    assert numbers(tmp_path) == [1, 2, 3, 10]
    assert urls(tmp_path) == ["http://1", "http://3", "http://10"]


def test_while_none_lives_the_first_is_named_where_it_will_be_again(tmp_path: Path):
    assert urls(tmp_path) == []
    put(tmp_path, 1, lives=False)
    put(tmp_path, 2, lives=False)
    assert urls(tmp_path) == ["http://1"]


def test_what_is_broken_is_as_nothing(tmp_path: Path):
    put(tmp_path, 1, lives=True)
    Home(tmp_path).gateway(1).json.write_bytes(b"[\xff")
    (tmp_path / "gateway-x.pid").write_text("")
    assert numbers(tmp_path) == [1]
    assert urls(tmp_path) == []
