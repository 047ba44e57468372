"""`myc up` alone takes a site up as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mycelium.base.home import Home
from mycelium.cli.site import before

NOTHING: dict[str, Any] = {
    "engine": "",
    "address": "",
    "host": "",
    "port": None,
    "tls": None,
    "gateways": None,
    "nodes": 1,
}
RAY = NOTHING | {"engine": "ray", "address": "10.0.0.1", "host": "10.0.0.1", "tls": True}
URL = "https://10.0.0.1:8711"


def test_a_site_of_many_machines_is_one_again_at_the_same_port(tmp_path: Path) -> None:
    before.keep(tmp_path, RAY, URL)
    assert before.fill(tmp_path, NOTHING) == RAY | {"host": "", "port": 8711}


def test_what_is_said_is_stronger(tmp_path: Path) -> None:
    before.keep(tmp_path, RAY, URL)
    said = NOTHING | {"address": "10.0.0.2", "port": 0, "tls": False}
    assert before.fill(tmp_path, said) == said | {"engine": "ray"}


def test_another_engine_begins_with_nothing(tmp_path: Path) -> None:
    before.keep(tmp_path, RAY, URL)
    said = NOTHING | {"engine": "local"}
    assert before.fill(tmp_path, said) == said


def test_a_site_of_one_machine_keeps_its_host_and_takes_any_port(tmp_path: Path) -> None:
    before.keep(tmp_path, NOTHING | {"host": "0.0.0.0", "tls": True}, "https://0.0.0.0:41000")
    for engine in ("", "local"):
        said = NOTHING | {"engine": engine}
        assert before.fill(tmp_path, said) == said | {"host": "0.0.0.0", "tls": True}


def test_a_first_start_and_a_spoilt_file_leave_what_was_said(tmp_path: Path) -> None:
    assert before.fill(tmp_path, NOTHING) == NOTHING
    Home(tmp_path).up.write_text("[3]")
    assert before.fill(tmp_path, NOTHING) == NOTHING
