"""Keys of servers elsewhere: each is shown to the server that it was given for, and to no other."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from mycelium.base.errors import Refused
from mycelium.serve.upstream_keys import LENGTH_MAX, UpstreamKeys, check

ONE, TWO = "http://one/v1", "http://two/v1"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "tokens").mkdir()
    return tmp_path


def test_a_key_outlives_the_head_and_is_bound_to_its_server(home: Path) -> None:
    asyncio.run(UpstreamKeys(home, {}).keep("far", ONE, "secret"))
    assert UpstreamKeys(home, {"far": TWO}).shown() == {("far", ONE): "secret"}
    assert (home / "tokens/upstreams").stat().st_mode & 0o777 == 0o600


def test_the_same_server_without_a_key_keeps_the_one_it_has_and_another_one_loses_it(home: Path) -> None:
    keys = UpstreamKeys(home, {})
    asyncio.run(keys.keep("far", ONE, "secret"))
    asyncio.run(keys.keep("far", ONE, ""))
    assert keys.shown() == {("far", ONE): "secret"}
    asyncio.run(keys.keep("far", TWO, ""))
    assert keys.shown() == {}
    assert "secret" not in (home / "tokens/upstreams").read_text()


def test_a_deployment_that_is_stopped_leaves_no_key(home: Path) -> None:
    keys = UpstreamKeys(home, {})
    asyncio.run(keys.keep("far", ONE, "secret"))
    asyncio.run(keys.keep("near", ONE, "other"))
    asyncio.run(keys.keep("far", "", ""))
    assert UpstreamKeys(home, {}).shown() == {("near", ONE): "other"}


def test_what_0_1_wrote_belongs_to_the_server_that_the_deployment_has(home: Path) -> None:
    (home / "tokens/upstreams").write_text(json.dumps({"far": "secret", "gone": "old"}))
    assert UpstreamKeys(home, {"far": ONE}).shown()["far", ONE] == "secret"
    assert ("far", ONE) in UpstreamKeys(home, {"far": TWO}).shown(), "it was bound at the first start, and stays so"


def test_who_follows_hears_of_a_change_and_of_nothing_else(home: Path) -> None:
    async def follow() -> None:
        keys, changed = UpstreamKeys(home, {}), asyncio.Event()
        with keys.following(changed):
            await keys.keep("far", ONE, "")
            assert not changed.is_set()
            await keys.keep("far", ONE, "secret")
            assert changed.is_set()

    asyncio.run(follow())


@pytest.mark.parametrize("key", ["ünicode", "two\nlines", "x" * (LENGTH_MAX + 1)])
def test_what_no_header_can_carry_is_no_key(key: str) -> None:
    with pytest.raises(Refused, match="printable ASCII"):
        check(key)
