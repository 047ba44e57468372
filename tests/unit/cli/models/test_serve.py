"""What `myc serve` takes, and what weights must be."""

from __future__ import annotations

from pathlib import Path

import pytest

from mycelium.base.errors import Refused
from mycelium.cli.models.model import check_form
from mycelium.cli.models.serve import check_options


@pytest.mark.parametrize("said", [{"--gpus": 1}, {"--min": 0}, {"--memory": "1G"}])
def test_an_upstream_is_told_nothing_of_replicas(said: dict[str, object]):
    check_options("", said, {"--kind": ""})
    with pytest.raises(Refused, match=next(iter(said))):
        check_options("http://host/v1", said, {})


def test_a_model_served_here_has_no_kind_of_an_upstream():
    check_options("http://host/v1", {"--gpus": None}, {"--kind": "chat"})
    with pytest.raises(Refused, match="--kind"):
        check_options("", {}, {"--kind": "chat"})


@pytest.mark.parametrize("content", [b"", b"GGU", b"junk\n", b"<html>"])
def test_what_is_no_gguf_does_not_become_a_model(tmp_path: Path, content: bytes):
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(Refused, match="are not GGUF"):
        check_form(tmp_path / "w", "w")
    (tmp_path / "w").write_bytes(b"GGUF\x03")
    check_form(tmp_path / "w", "w")
