from __future__ import annotations

from pathlib import Path

import pytest

from mycelium.base import appended as module
from mycelium.base.appended import appended


def test_a_log_goes_on_until_it_is_long_and_keeps_what_was_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PROCESS_LOG_BYTES_MAX", 8)
    log = tmp_path / "head.log"
    for words in (b"first", b"second", b"third"):
        with appended(log) as output:
            output.write(words)
    assert log.read_bytes() == b"third"
    assert (tmp_path / "head.log.old").read_bytes() == b"firstsecond"
